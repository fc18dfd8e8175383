"""Every back-end of every protocol side by side: how near the truth, at what cost, and whether they agree.

    python benchmarks/backends.py MEDIA_DIR WILD_DIR DATASET [--words FOLDER] [--only PROTOCOL ...] [--json FILE]

The protocols and their back-ends are those that the stages declare, so none can be left out: where weights or a
package are missing, or where nothing is known to hold a back-end against, the table says so. WILD_DIR holds real
conversations with truth made by hand, DATASET a finished dataset of them, MEDIA_DIR composed footage, FOLDER spoken
words of known times (`word_truth.py`). Every back-end runs in a process of its own. `cpu_s_per_s`: CPU seconds a
second of sound or picture that it was given (a picture every 2 s counts for 2 s; a portrait for 1 s); `peak_rss_mib`:
of the process, what it reads included. `agree`: share of equal answers of two back-ends to the same questions.
`--only` keeps what the file holds of the other protocols. For every back-end run it by `.venv-full/bin/python` (`make
setup-full`).
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import backend_picture as picture
import backend_sound as sound
import backend_words as words
import record
from backend_footage import Footage, Tried

from annotators.models.weights import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.parts import Declared, Part
from curation.stage import StageSettings
from schemas.settings.use import UseError, load
from stages import SHIPPED

Case = Callable[[Any, Footage, str], Tried | None]

CASES: dict[str, Case] = {
    "VoiceActivity": lambda part, footage, _: sound.voice_activity(part, footage),
    "Diarizer": lambda part, footage, _: sound.diarizer(part, footage),
    "SpeakerEmbedder": lambda part, footage, _: sound.speaker_embedder(part, footage),
    "EventDetector": lambda part, footage, _: sound.event_detector(part, footage),
    "SpeechEnhancer": lambda part, footage, _: sound.speech_enhancer(part, footage),
    "FaceDetecting": lambda part, footage, _: picture.face_detecting(part, footage),
    "FaceAnalyzer": lambda part, footage, _: picture.face_analyzer(part, footage),
    "TextDetecting": lambda part, footage, _: picture.text_detecting(part, footage),
    "BodyAnalyzer": lambda part, footage, _: picture.body_analyzer(part, footage),
    "ShotChanges": lambda part, footage, _: picture.shot_changes(part, footage),
    "PortraitEmbedder": lambda part, footage, _: picture.portrait_embedder(part, footage),
    "ActiveSpeaker": lambda _, footage, choice: picture.active_speaker(footage, choice),
    "LipSync": lambda _, footage, choice: picture.lip_sync(footage, choice),
    "Transcriber": lambda part, footage, _: words.transcriber(part, footage.words),
    "Aligner": lambda part, footage, _: words.aligner(part, footage.words),
}

UNKNOWN = {
    "SourceSeparator": "a network of one's own, and none here",
    "Verifier": "a served model, which is not here",
    "Captioner": "rules have no rival here: the other is a served model",
    "ImageTextEmbedder": "a model of one's own, and none here",
    "VectorScorer": "a head of one's own, and none here",
    "SpeakingEvidence": "one back-end; its weights are judged by fit_speaking.py",
}
"""Why nothing is measured of a protocol."""


def declared() -> Iterator[tuple[str, str, str]]:
    """Yield (protocol, setting, short name) of every back-end that ships; each once a protocol."""
    seen = set()
    for path in SHIPPED.values():
        stage: Any = load(path)
        settings: type[StageSettings] = stage.Settings
        for name, info in settings.model_fields.items():
            for part in (m for m in info.metadata if isinstance(m, Declared)):
                protocol = protocol_of(info.annotation).__name__
                for choice, shipped in part.shipped.items():
                    if (protocol, str(shipped)) not in seen:
                        seen.add((protocol, str(shipped)))
                        yield protocol, f"{path}.{name}", choice


def protocol_of(annotation: Any) -> Any:
    """Return X of a field annotated `Part[X]` or `Part[X | None]`."""
    (inner,) = get_args(annotation)
    return next(a for a in (*get_args(inner), inner) if a is not type(None))


def chosen(setting: str, choice: str) -> Part[Any]:
    """Return a shipped back-end as the stage's settings read it."""
    path, _, name = setting.rpartition(".")
    stage: Any = load(path)
    info = stage.Settings.model_fields[name]
    mark = next(m for m in info.metadata if isinstance(m, Declared))
    part: Part[Any] = mark.read(protocol_of(info.annotation), choice)
    return part


def one(protocol: str, setting: str, choice: str, footage: Footage) -> dict[str, Any]:
    """Return what one back-end does, in this process."""
    try:
        part = chosen(setting, choice)
        made = part.provenance(choice)
        tried = CASES[protocol](part.build(), footage, choice)
    except (PartNotInstalledError, WeightsNotFound, UseError) as e:
        return {"unknown": str(e).split(": looked for")[0].split(";")[0].splitlines()[0]}
    if tried is None:
        return {"unknown": "nothing at work, nothing to measure"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "made_of": made,
        "figures": {k: None if v is None else round(v, 4) for k, v in tried.figures.items()},
        "cpu_s_per_s": round(tried.cpu_s / max(tried.asked_s, 1e-9), 4),
        "asked_s": round(tried.asked_s, 1),
        "peak_rss_mib": round(peak),
        "said": tried.said,
    }


def agreement(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the share of equal answers of each two back-ends that were asked the same number of questions."""
    out = {}
    for (a, x), (b, y) in itertools.combinations(found.items(), 2):
        one, two = x.get("said", []), y.get("said", [])
        if one and len(one) == len(two):
            out[f"{a}, {b}"] = round(sum(p == q for p, q in zip(one, two, strict=True)) / len(one), 4)
    return out


def main() -> None:
    """Run every back-end in a process of its own, print and write the table."""
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("wild", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--words", type=Path, help="what word_truth.py wrote")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--one", nargs=3, metavar=("PROTOCOL", "SETTING", "CHOICE"), help="in this process")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    where = [str(args.media), str(args.wild), str(args.dataset), *(["--words", str(args.words)] if args.words else [])]
    if args.one:
        protocol, setting, choice = args.one
        result = one(protocol, setting, choice, Footage(args.media, args.wild, args.dataset, args.words))
        sys.stdout.write("\n" + json.dumps(result) + "\n")
        return
    before = (
        json.loads(args.json.read_text("utf-8"))["protocols"] if args.only and args.json and args.json.exists() else {}
    )
    protocols: dict[str, Any] = {}
    for protocol, setting, choice in declared():
        if args.only and protocol not in args.only:
            continue
        row: dict[str, Any] = {"unknown": UNKNOWN.get(protocol, "no case")}
        if protocol in CASES:
            command = [sys.executable, "-W", "ignore", __file__, *where, "--one", protocol, setting, choice]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{protocol} {choice}: {done.stderr[-2000:]}")
            row = json.loads(done.stdout.splitlines()[-1])
        protocols.setdefault(protocol, {})[choice] = row
        print(protocol, choice, {k: v for k, v in row.items() if k not in ("said", "made_of")}, flush=True)
    for protocol, found in protocols.items():
        agree = agreement(found)
        for row in found.values():
            row.pop("said", None)
        protocols[protocol] = {"backends": found, **({"agree": agree} if agree else {})}
    record.write(args.json, {**record.today_here(), "protocols": dict(sorted((before | protocols).items()))})


if __name__ == "__main__":
    main()
