"""The text of a user's module with a stage that says where it runs, and that fails, halves and dies on demand."""

WHERE = '''
import json
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

from annotators.models.batches import in_batches
from beside import helped
from curation.stage import Outputs, StageSettings
from schemas import columns as c
from schemas import tables as t
from schemas.table import Column, Row, Table


class WhereRow(Row):
    """Where a source was measured."""

    source_id: Column[str] = c.source_id()
    python: Column[str] = c.text("the Python")
    pid: Column[int] = c.index("its process")


WHERE = Table(WhereRow, "where_it_ran", (WhereRow.source_id,))


class WhereSettings(StageSettings):
    tweak: float = 1.0

    def provenance(self):
        return {"prefix": sys.prefix}


class Where:
    name, version, grain = "where", 1, "source"
    reads, writes = (t.SOURCES,), (WHERE,)
    gate, gate_mode, Settings = None, "once", WhereSettings

    def __init__(self, settings):
        self.halved = []

    def run(self, item, inputs):
        spec = json.loads(inputs.media.read_text())
        print("printed of", spec["name"])
        if spec.get("fail") == "where":
            raise ValueError("made to fail")
        if "signal" in spec:
            os.kill(os.getpid(), getattr(signal, spec["signal"]))
        in_batches([1, 2], 2, self.small)
        row = {"source_id": item.source_id, "python": helped(sys.executable), "pid": os.getpid()}
        return Outputs({WHERE: WHERE.from_rows([row])})

    def small(self, some):
        if len(some) > 1:
            raise MemoryError
        return some
'''

BESIDE = """
def helped(text):
    return text
"""
