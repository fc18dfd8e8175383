"""The record of a run: what it was of, what it does now, how it ended."""

from __future__ import annotations

import contextlib
import os
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from curation.decisions.ledger import Balance
from curation.faults import fault_of
from curation.storage.store import Store, StoreError
from schemas.settings.use import OURS


class RunLog:
    """runs/<run_id>/: what was run (run.json) and how it ended (outcome.json), beside the logs of its steps."""

    def __init__(self, store: Store, run_id: str, facts: Mapping[str, object], warnings: Sequence[str]) -> None:
        """Begin the record of a run: when, on what machine, and `facts`, what it is of."""
        self._store, self._run_id = store, run_id
        self._started = time.time()
        self._warnings = list(warnings)
        self._facts = {
            "run_id": run_id,
            "started": datetime.now(UTC).isoformat(timespec="microseconds"),
            "machine": {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()},
            "warnings": self._warnings,
            **facts,
        }
        store.write_json(f"runs/{run_id}/run.json", self._facts)

    def phase(self, name: str) -> None:
        """Put down what the run begins with now, for who asks how it goes."""
        self._store.write_json(f"runs/{self._run_id}/phase.json", {"phase": name, "at": round(time.time(), 3)})

    def warn(self, said: str) -> None:
        """Record what is to be known of the run later on."""
        self._warnings.append(said)
        self._store.write_json(f"runs/{self._run_id}/run.json", self._facts)

    def unexpected(self, e: BaseException) -> str | None:
        """Put an error that is no answer of ours into a file, and return the sentence that names it."""
        if not isinstance(e, Exception) or type(e).__module__.split(".")[0] in OURS:
            return None
        name = f"runs/{self._run_id}/traceback.txt"
        with contextlib.suppress(StoreError):
            self._store.write(name, "".join(traceback.format_exception(e)).encode(errors="replace"))
        whose = {"transient": "what it reads or writes cannot be reached", "memory": "there is too little memory"}
        why = whose.get(fault_of(e), "this is a fault of the program or of the machine, not of the data")
        return (
            f"the run stopped on {platform.node()}: {type(e).__name__}: {e}; {why}. Finished work is kept, run the "
            f"same command again to go on; the traceback is in {self._store.uri}/{name}"
        )

    def close(self, outcome: str, balances: list[Balance]) -> None:
        """Record how the run ended."""
        with contextlib.suppress(StoreError):  # the error that ended the run is the one to report
            facts = {
                "outcome": outcome,
                "wall_s": round(time.time() - self._started, 3),
                "balances": [asdict(b) for b in balances],
            }
            self._store.write_json(f"runs/{self._run_id}/outcome.json", facts)
