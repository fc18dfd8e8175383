"""Timelines as text that annotators' tools read: CSV, JSON, RTTM, ELAN (.eaf), Audacity, Label Studio; and back.

Pure functions. Times are written to the millisecond. CSV and JSON carry every field; RTTM speaking turns only; the
others track, times and state, and ELAN beside them who said which word, to be read and not taken in. Reading refuses
what it does not understand, with the place and what to do.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from curation.labels import label_studio
from schemas.tables import LABEL_STATES

Format = Literal["csv", "json", "rttm", "elan", "audacity", "label-studio"]
FORMATS: tuple[Format, ...] = ("csv", "json", "rttm", "elan", "audacity", "label-studio")
SUFFIXES: dict[str, Format] = {
    ".csv": "csv", ".json": "json", ".rttm": "rttm", ".eaf": "elan", ".txt": "audacity",
}  # fmt: skip


class LabelError(ValueError):
    """A label that cannot be taken; the message names the line and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stretch of one person's timeline; `where` is its line in the file it came from."""

    track_id: str
    start_s: float
    end_s: float
    state: str
    source_id: str = ""
    """id or file name; may be empty, as a track id begins with its source's id"""
    partner: str | None = None
    note: str | None = None
    author: str | None = None
    labelled_at: str | None = None
    center_x: float | None = None
    center_y: float | None = None
    where: str = ""
    heard_only: bool = False
    """from a format that tells who speaks, not whether they listen too: its `speak` may be `both`"""
    file_source: str = ""
    """the source that its file is named after, for a format that names none"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an annotator sees and hears beside the states: the video's address, and what each voice says when."""

    media: str = ""
    voices: Sequence[tuple[str, float, float, str]] = ()
    """(tier, start, end, text)"""


BESIDE = ("voice ", "words ")
"""How tiers of what is heard begin: they are read in ELAN and never taken for a person's states."""

_FIELDS = tuple(f.name for f in fields(Entry) if f.name not in ("where", "heard_only", "file_source"))
_NEEDED = ("track_id", "start_s", "end_s", "state")
_NUMBERS = ("start_s", "end_s", "center_x", "center_y")
_SHORT = 60  # characters of a wrong value that a message shows


def entry(values: dict[str, Any], where: str) -> Entry:
    """Return a checked entry of field values (text or numbers). Raises LabelError."""
    unknown = sorted(str(k) for k in values if k not in _FIELDS)
    if unknown:
        raise LabelError(f"{where}: unknown field {unknown[0]!r}; there are: {', '.join(_FIELDS)}")
    clean: dict[str, Any] = {k: v for k, v in values.items() if v not in (None, "")}
    lacking = [k for k in _NEEDED if k not in clean]
    if lacking:
        raise LabelError(f"{where}: no {lacking[0]}; every label needs track_id, start_s, end_s and state")
    for name in clean:
        clean[name] = _number(clean[name], name, where) if name in _NUMBERS else _text(clean[name], name, where)
    start_s, end_s = round(clean["start_s"], 3), round(clean["end_s"], 3)
    if not 0 <= start_s < end_s:
        raise LabelError(f"{where}: time {start_s:g} to {end_s:g} s; a label starts at 0 or later, before it ends")
    if clean["state"] not in LABEL_STATES:
        raise LabelError(f"{where}: unknown state {clean['state']!r}; write one of {', '.join(LABEL_STATES)}")
    return Entry(**{**clean, "start_s": start_s, "end_s": end_s, "where": where})


def unwritable(text: str) -> str | None:
    """Return the code of the first character that is none, as U+D800; None where a text can be stored and shown.

    Half of a surrogate pair cannot be written as UTF-8, and control codes, lines and tabs aside, break what reads it.
    """
    found = next((c for c in text if c not in "\n\r\t" and unicodedata.category(c) in ("Cc", "Cs")), None)
    return None if found is None else f"U+{ord(found):04X}"


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise LabelError(f"{where}: {name} is {_short(value)}; write a number, seconds with a decimal point")
    return number


def _text(value: Any, name: str, where: str) -> str:
    text = str(value)
    if found := unwritable(text):
        raise LabelError(f"{where}: {name} holds {found}, which is no character of a text; take it out")
    return text


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= _SHORT else f"{said[:_SHORT]}..."


def write(entries: Iterable[Entry], form: Format, heard: Mapping[str, Heard] | None = None) -> str:
    """Return the text of a file; `heard` is by source. RTTM keeps speaking stretches only."""
    rows, beside = sorted(entries, key=lambda e: (e.source_id, e.track_id, e.start_s)), heard or {}
    if form == "elan":
        return _elan(rows, beside.get(rows[0].source_id, Heard()) if rows else Heard())
    if form == "label-studio":
        return label_studio.tasks([_plain(e) for e in rows], {i: h.media for i, h in beside.items()})
    return {"csv": _csv, "json": _json, "rttm": _rttm, "audacity": _audacity}[form](rows)


def read(text: str, form: Format, name: str) -> list[Entry]:
    """Return the checked entries of a file's text; `name` is the file's name for messages. Raises LabelError."""
    readers: dict[str, Callable[[str, str], list[Entry]]] = {
        "csv": _from_csv, "json": _from_json, "rttm": _from_rttm, "elan": _from_elan, "audacity": _from_audacity,
        "label-studio": _from_label_studio,
    }  # fmt: skip
    return readers[form](text.removeprefix("\ufeff"), name)


def _plain(e: Entry) -> dict[str, Any]:
    return {k: v for k, v in asdict(e).items() if k in _FIELDS}


def _csv(rows: Sequence[Entry]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for e in rows:
        writer.writerow({**_plain(e), "start_s": f"{e.start_s:.3f}", "end_s": f"{e.end_s:.3f}"})
    return out.getvalue()


def _from_csv(text: str, name: str) -> list[Entry]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="more columns than the header")
    try:
        if not set(reader.fieldnames or ()) & set(_NEEDED):
            raise LabelError(f"{name}: no header; its first line names the columns: {', '.join(_NEEDED)}")
        return [entry(row, f"{name}, line {reader.line_num}") for row in reader]
    except csv.Error as e:  # a field of more than 131072 characters, as after a quote that nothing closes
        where = f"{name}, line {reader.line_num + 1}"
        raise LabelError(f"{where}: not CSV ({e}); look for a quote that is not closed") from e


def _json(rows: Sequence[Entry]) -> str:
    return json.dumps({"labels": [_plain(e) for e in rows]}, indent=1, ensure_ascii=False) + "\n"


def _from_json(text: str, name: str) -> list[Entry]:
    try:
        found = label_studio.parsed(text, name)
    except label_studio.TaskError as e:
        raise LabelError(str(e)) from e
    rows = found.get("labels") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise LabelError(f'{name}: write {{"labels": [{{"track_id": ..., "start_s": ...}}, ...]}}')
    return [entry(r, f"{name}, label {n}") for n, r in enumerate(rows, 1)]


# RTTM is ten words a line; the libraries that read it (pyannote.database) bring a training stack along.
def _rttm(rows: Sequence[Entry]) -> str:
    return "".join(
        f"SPEAKER {one_word(e.source_id or 'unknown')} 1 {e.start_s:.3f} {e.end_s - e.start_s:.3f} <NA> <NA> "
        f"{one_word(e.track_id)} <NA> <NA>\n"
        for e in rows
        if e.state in ("speak", "both")
    )


def one_word(name: str) -> str:
    """Return a name as one field of RTTM, such as `a%20b`, which `unquote` takes back; most names stay as they are."""
    if name.split() == [name] and unquote(name) == name:
        return name
    return "".join(quote(c) if c.isspace() or c == "%" else c for c in name)


def _from_rttm(text: str, name: str) -> list[Entry]:
    out = []
    for n, line in enumerate(text.splitlines(), 1):
        words, where = line.split(), f"{name}, line {n}"
        if not words or words[0] != "SPEAKER":
            continue
        if not 8 <= len(words) <= 10:  # of the ten, tools leave out the last two
            raise LabelError(
                f"{where}: {len(words)} fields; SPEAKER source 1 start duration <NA> <NA> track_id <NA> <NA> are 10, "
                "with spaces between; write a space within a name as %20"
            )
        start_s = _number(words[3], "start", where)
        values = {"start_s": start_s, "end_s": start_s + _number(words[4], "duration", where), "state": "speak"}
        turn = entry({**values, "track_id": unquote(words[7]), "source_id": unquote(words[1])}, where)
        out.append(replace(turn, heard_only=True))
    return out


def _audacity(rows: Sequence[Entry]) -> str:
    ordered = sorted(rows, key=lambda e: (e.start_s, e.track_id))
    return "".join(f"{e.start_s:.6f}\t{e.end_s:.6f}\t{e.track_id}:{e.state}\n" for e in ordered)


def _from_audacity(text: str, name: str) -> list[Entry]:
    out = []
    for n, line in enumerate(text.splitlines(), 1):
        where = f"{name}, line {n}"
        if not line.strip() or line.startswith("\\"):  # a second line with frequencies belongs to a spectral selection
            continue
        cells = line.split("\t")
        track, colon, state = cells[-1].strip().rpartition(":")
        if len(cells) != 3 or not colon:
            raise LabelError(f"{where}: write start, end and track_id:state with tabs between")
        out.append(entry({"start_s": cells[0], "end_s": cells[1], "track_id": track, "state": state}, where))
    return out


# pympi-ling stamps the hour into each file and meets a broken one with a bare KeyError; the tests read ours with it.
def _elan(rows: Sequence[Entry], heard: Heard) -> str:
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "", "DATE": "2000-01-01T00:00:00+00:00", "FORMAT": "3.0", "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )  # fmt: skip
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if heard.media:
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=heard.media, MIME_TYPE="video/mp4")
    order = ElementTree.SubElement(root, "TIME_ORDER")
    tiers: dict[str, ElementTree.Element] = {}
    times: list[tuple[int, str]] = []
    states = [(e.track_id, e.start_s, e.end_s, e.state, "state") for e in rows]
    for n, (tier, start_s, end_s, text, kind) in enumerate([*states, *((*v, "heard") for v in heard.voices)]):
        if tier not in tiers:
            tiers[tier] = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=kind, TIER_ID=tier)
        holder = ElementTree.SubElement(tiers[tier], "ANNOTATION")
        a, b = f"ts{2 * n + 1}", f"ts{2 * n + 2}"
        times += [(round(start_s * 1000), a), (round(end_s * 1000), b)]
        note = ElementTree.SubElement(
            holder, "ALIGNABLE_ANNOTATION", ANNOTATION_ID=f"a{n + 1}", TIME_SLOT_REF1=a, TIME_SLOT_REF2=b
        )
        ElementTree.SubElement(note, "ANNOTATION_VALUE").text = text
    for ms, slot in sorted(times):
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
    _elan_states(root)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _elan_states(root: ElementTree.Element) -> None:
    """Name the states as a controlled vocabulary, so that ELAN offers them as a list."""
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "state", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", {**kind, "CONTROLLED_VOCABULARY_REF": "states"})
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", {**kind, "LINGUISTIC_TYPE_ID": "heard"})
    undetermined = "http://cdb.iso.org/lg/CDB-00130975-001"  # ISO 639-3 "und", ELAN's own default
    ElementTree.SubElement(root, "LANGUAGE", LANG_DEF=undetermined, LANG_ID="und", LANG_LABEL="undetermined (und)")
    words = ElementTree.SubElement(root, "CONTROLLED_VOCABULARY", CV_ID="states")
    ElementTree.SubElement(words, "DESCRIPTION", LANG_REF="und")
    for state in LABEL_STATES:
        word = ElementTree.SubElement(words, "CV_ENTRY_ML", CVE_ID=f"state-{state}")
        ElementTree.SubElement(word, "CVE_VALUE", DESCRIPTION="", LANG_REF="und").text = state


def _from_elan(text: str, name: str) -> list[Entry]:
    if "<!DOCTYPE" in text:  # ELAN writes none; entities declared in one could be made to explode
        raise LabelError(f"{name}: a document type declaration is not allowed; save it again from ELAN")
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as e:
        raise LabelError(f"{name}, line {e.position[0]}: not an .eaf file ({e}); save it again from ELAN") from e
    slots = {s.get("TIME_SLOT_ID"): s.get("TIME_VALUE") for s in root.iter("TIME_SLOT")}
    origin_ms = _origin_ms(root, name)
    out = []
    for tier in (x for x in root.iter("TIER") if not (x.get("TIER_ID") or "").startswith(BESIDE)):
        for a in tier.iter("ALIGNABLE_ANNOTATION"):
            where = f"{name}, tier {tier.get('TIER_ID')}, annotation {a.get('ANNOTATION_ID')}"
            ends = [slots.get(a.get(f"TIME_SLOT_REF{i}")) for i in (1, 2)]
            if None in ends:
                raise LabelError(f"{where}: it has no time; align it in ELAN")
            start_s, end_s = ((_number(x, "time", where) + origin_ms) / 1000 for x in ends)
            state = (a.findtext("ANNOTATION_VALUE") or "").strip()
            if state and state not in LABEL_STATES:
                raise LabelError(
                    f"{where}: unknown state {_short(state)}; write one of {', '.join(LABEL_STATES)}. A tier of your "
                    f"own is left out where its name begins with `{BESIDE[0]}` or `{BESIDE[1]}`: name it so, or "
                    "delete it"
                )
            values = {"track_id": tier.get("TIER_ID"), "state": state, "start_s": start_s, "end_s": end_s}
            out.append(entry(values, where))
    return out


def _origin_ms(root: ElementTree.Element, name: str) -> float:
    """Return where in the video the annotations' time begins: ELAN plays a medium from its TIME_ORIGIN on."""
    found = {_number(m.get("TIME_ORIGIN") or "0", "TIME_ORIGIN", name) for m in root.iter("MEDIA_DESCRIPTOR")}
    if len(found) > 1:
        raise LabelError(
            f"{name}: its media begin at different offsets ({', '.join(f'{x:g}' for x in sorted(found))} ms), so its "
            "times are of one of them only; leave the video alone in ELAN's Edit > Linked Files, and save"
        )
    return found.pop() if found else 0.0


def _from_label_studio(text: str, name: str) -> list[Entry]:
    try:
        return [entry(values, where) for values, where in label_studio.labels(text, name)]
    except label_studio.TaskError as e:
        raise LabelError(str(e)) from e
