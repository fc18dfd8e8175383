"""The result of benchmarks/accuracy.py as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from truth_people import STATES


def show(result: dict[str, Any]) -> str:
    """Return the whole result as text."""
    lines = show_figures(result)
    for n, e in result["sync"]["error_ms"].items():
        lines.append(f"sync error {n}: {'not measured' if e is None else f'{e:+.0f} ms'}")
    for n, x in result["sessions"].items():
        error = "not found" if x["offset_error_ms"] is None else f"{x['offset_error_ms']:+.1f} ms"
        right = f"{x['right_partner_and_state']} of {x['segments']}"
        lines.append(f"session {n}: offset error {error}, partner and state right in {right} segments")
    d, b = result["defects"], result["bad"]
    if d["total"]:
        lines.append(f"defects caught: {d['caught']} of {d['total']}")
        lines += [f"  {n}: {v}" for n, v in d["per_clip"].items()]
    if b["total"]:
        lines.append(f"broken files quarantined: {b['quarantined']} of {b['total']}")
    lost = result["ledger"]["unaccounted"]
    lines.append(f"unaccounted for: {'not decided yet' if lost is None else lost}")
    for name in ("named", "others"):
        if name in result.get("groups", {}):
            lines.append(f"\n== {name} ({', '.join(result['groups']['prefixes'])})")
            lines += show_figures(result["groups"][name])
    return "\n".join(lines)


def show_figures(result: dict[str, Any]) -> list[str]:
    """Return what is measured of some clips as lines."""
    lines = _cuts(result["cuts"])
    if result["states"]["accuracy"] is not None:
        lines += _states(result)
    lines += _people(result)
    lines += _yield(result["yield"])
    p = result["purity"]
    if p["samples"]:
        lines.append(f"purity over {p['samples']} samples: speak {_share(p['speak'])}, listen {_share(p['listen'])}")
    lines.append(f"quarantined: {result['quarantined']['units']} units")
    lines += [f"  {w}" for w in result["quarantined"]["which"]]
    return lines


def _cuts(c: dict[str, Any]) -> list[str]:
    lines = [f"cuts: precision {c['precision']:.3f}, recall {c['recall']:.3f}, F1 {c['f1']:.3f} "
             f"(true {c['true']}, found {c['found']}, right {c['right']})"]  # fmt: skip
    lines += [f"  {kind}: {v['right']} of {v['true']}" for kind, v in c["by_kind"].items()]
    for name, w in c["wrong"].items():
        lines.append(f"  {name}: missed {', '.join(w['missed']) or '-'}; false {', '.join(w['false']) or '-'}")
    return lines


def _states(result: dict[str, Any]) -> list[str]:
    s, b = result["states"], result["baseline"]
    lines = [f"states: accuracy {s['accuracy']:.4f} over {s['frames']} frames; plain baseline {b['accuracy']:.4f}"]
    for state in STATES:
        if s["recall"][state] is not None:
            lines.append(
                f"  {state:<8} recall {s['recall'][state]:.3f} precision {_share(s['precision'][state])}"
                f"   baseline {_share(b['recall'][state])} {_share(b['precision'][state])}"
            )
    lines.append(f"  {'true / found':<14}" + "".join(f"{p:>9}" for p in (*STATES, "missing")))
    lines += [f"  {k:<14}" + "".join(f"{n:>9}" for n in row.values()) for k, row in s["confusion"].items()]
    lines.append("  clip                      frames    right baseline")
    for clip, v in s["per_clip"].items():
        lines.append(f"  {clip:<24} {s['frames_per_clip'][clip]:>7} {v:>8.3f} {b['per_clip'][clip]:>8.3f}")
    lines.append("  wrong frames by true > found: reason")
    lines += [f"    {n:>5} {what}" for what, n in list(s["wrong_by_reason"].items())[:12]]
    lines.append("  faces that are not scored, by why: what was found")
    for why, found in list(s["unsure"].items())[:10]:
        lines.append(f"    {why[:60]}: {', '.join(f'{state} {n}' for state, n in sorted(found.items()))}")
    return lines


def _people(result: dict[str, Any]) -> list[str]:
    i, r = result["identity"], result["references"]
    lines = []
    if i["precision"] is not None:
        lines.append(
            f"identity: precision {i['precision']:.3f}, recall {i['recall']:.3f} (B-cubed, {i['tracks']} tracks, "
            f"{i['people']} people, {i['identities']} identities, {i['without_identity']} tracks without one: "
            f"without these {_share(i['precision_named'])}, {_share(i['recall_named'])})"
        )
        lines += [f"  merged: {', '.join(people)}" for people in i["merged"]]
        lines += [f"  split: {person} into {n}" for person, n in i["split"].items()]
    lines.append(f"tracks of two people: {result['tracks']['two_people']}")
    for x in result["tracks"]["which"]:
        lines.append(f"  {x['clip']} {x['track']}: {', '.join(f'{p} {n}' for p, n in x['frames'].items())}")
    lines.append(
        f"references: {r['right']} right, {r['wrong']} of another person in {r['samples_with_wrong']} samples, "
        f"{r['unlabelled']} of or for tracks without truth"
    )
    return lines


def _yield(y: dict[str, Any]) -> list[str]:
    lines = [
        f"yield: usable {y['usable_s']:.1f} s, of these kept {y['kept_usable_s']:.1f} s ({_share(y['kept_share'])}); "
        f"kept {y['kept_s']:.1f} s in {y['kept_segments']} segments, right {y['kept_right_s']:.1f}, "
        f"wrong {y['kept_wrong_s']:.2f}, unsure {y['kept_unsure_s']:.1f}, of nobody labelled {y['kept_nobody_s']:.1f}"
    ]
    lines.append("  precision of the kept: " + ", ".join(f"{k} {_share(v)}" for k, v in y["kept_precision"].items()))
    lines.append("  labelled seconds by what became of them, and what they would be worth")
    lines += [
        f"    {rule:<20} {', '.join(f'{what} {s:.1f} s' for what, s in worth.items())}"
        for rule, worth in y["rules"].items()
    ]
    lines += [f"  {s:>7.2f} s taken by {rule}" for rule, s in y["by_rule"].items()]
    lines += [f"  {s:>7.2f} s wrong: {what}" for what, s in y["wrong_segments"].items()]
    return lines


def show_stretches(stretches: Sequence[dict[str, Any]]) -> str:
    """Return a list of wrong stretches, by clip and person in order of time."""
    lines, before = [], ("", "")
    for x in stretches:
        if (x["clip"], x["person"]) != before:
            before = (x["clip"], x["person"])
            lines.append(f"{x['clip']}: {x['person']}")
        score = "    -" if x["score"] is None else f"{x['score']:+5.2f}"
        lines.append(
            f"  {x['start_s']:7.2f}-{x['end_s']:6.2f} {x['frames']:>4} frames  {x['true']:<8} found {x['found']:<8} "
            f"{x['reason']:<20} score {score}  confidence {x['confidence']:.2f}  "
            f"baseline right {x['baseline_right']:>3}  {x['track'] or ''}"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
