"""Timelines as tasks for Label Studio's video timeline, and annotated tasks back; and the labelling set-up they need.

One task a person: its regions are the states. Label Studio counts a video's frames from 1 at the rate that the set-up
names, both ends included, whatever the file's own rate; 25 a second is the grid of the timeline itself. What is in
people's `annotations` is read, not the `predictions` that were exported.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.tables import LABEL_STATES
from schemas.time import GRID_HZ

SET_UP = f"""<View>
  <Header value="$person"/>
  <TimelineLabels name="state" toName="video">
{"".join(f'    <Label value="{state}"/>' + chr(10) for state in LABEL_STATES)}  </TimelineLabels>
  <Video name="video" value="$video" frameRate="{GRID_HZ}" timelineHeight="120"/>
</View>
"""
"""The project's labelling interface, as Label Studio's settings take it."""


class TaskError(ValueError):
    """Tasks that are not of Label Studio's form; the message says where."""


def tasks(rows: Sequence[Mapping[str, Any]], media: Mapping[str, str]) -> str:
    """Return tasks with the timelines as predictions, from rows with the fields of a label.

    `media` is where the browser finds each source's video.
    """
    people: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        people[row["source_id"], row["track_id"]].append(row)
    out = []
    for (source_id, track_id), mine in sorted(people.items()):
        x, y = mine[0]["center_x"], mine[0]["center_y"]
        seen = "" if x is None else f", face at {x:.0%} from the left and {y:.0%} from the top"
        times = f"{mine[0]['start_s']:.2f}-{mine[-1]['end_s']:.2f} s"
        out.append({
            "data": {
                "video": media.get(source_id, ""), "source_id": source_id, "track_id": track_id,
                "person": f"{track_id}: {times}{seen}", "center_x": x, "center_y": y,
            },
            "predictions": [{"model_version": "openlpm", "result": [_region(n, row) for n, row in enumerate(mine)]}],
        })  # fmt: skip
    return json.dumps(out, indent=1, ensure_ascii=False) + "\n"


def _region(n: int, row: Mapping[str, Any]) -> dict[str, Any]:
    first, last = round(row["start_s"] * GRID_HZ) + 1, round(row["end_s"] * GRID_HZ)
    return {
        "id": f"r{n}", "from_name": "state", "to_name": "video", "type": "timelinelabels", "origin": "prediction",
        "value": {"ranges": [{"start": first, "end": max(first, last)}], "timelinelabels": [row["state"]]},
    }  # fmt: skip


def parsed(text: str, name: str) -> Any:
    """Return what JSON holds. Raises TaskError for what is none, with its line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise TaskError(f"{name}, line {e.lineno}: not JSON ({e.msg})") from e
    except RecursionError as e:
        raise TaskError(f"{name}: lists in lists too deep to be read; export it again") from e
    except ValueError as e:  # a whole number of more than 4300 digits
        raise TaskError(f"{name}: a number in it is too long to be read; write seconds with a decimal point") from e


def _objects(value: Any, what: str, where: str) -> list[dict[str, Any]]:
    """Return a list of objects. Raises TaskError for anything else."""
    if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
        raise TaskError(f"{where}: `{what}` is no list of objects; export the project as JSON again")
    return value


def labels(text: str, name: str) -> list[tuple[dict[str, Any], str]]:
    """Return the fields of each annotated label, and its place for messages, from Label Studio's JSON export.

    Raises:
        TaskError: it is no such export, or a task in it is of another project.
    """
    found = parsed(text, name)
    if not isinstance(found, list) or not all(isinstance(x, dict) and "annotations" in x for x in found):
        raise TaskError(f"{name}: export the project as JSON (not JSON-MIN): a list of tasks with their annotations")
    out = []
    for n, task in enumerate(found, 1):
        where, data = f"{name}, task {task.get('id', n)!s:.40}", task.get("data") or {}
        if not isinstance(data, dict) or "track_id" not in data:
            raise TaskError(f"{where}: it names no track_id; only tasks of `lpm export label-studio` can be read")
        own = {k: data.get(k) for k in ("track_id", "source_id", "center_x", "center_y")}
        done = [a for a in _objects(task["annotations"], "annotations", where) if not a.get("was_cancelled")]
        if len(done) > 1:
            raise TaskError(f"{where}: {len(done)} people annotated it; export one annotator's work at a time")
        regions = [r for a in done for r in _objects(a.get("result", []), "result", where)]
        for region in (r for r in regions if r.get("type") == "timelinelabels"):
            try:
                value = region["value"]
                (state,) = value["timelinelabels"]
                spans = [((r["start"] - 1) / GRID_HZ, r["end"] / GRID_HZ) for r in value["ranges"]]
            except (KeyError, OverflowError, TypeError, ValueError) as e:
                raise TaskError(f"{where}, region {region.get('id')}: not one label with frames ({e})") from e
            out += [({**own, "state": state, "start_s": a, "end_s": b}, f"{where}, {state}") for a, b in spans]
    return out
