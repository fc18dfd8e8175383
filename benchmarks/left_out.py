"""States on clips that nothing fitted has seen: every clip judged by weights and a lip sync model made without it.

    python benchmarks/left_out.py DATASET=MEDIA_DIR [--with DATASET=MEDIA_DIR ...] [--talkers DATASET] [--json FILE]

DATASET holds a finished run of the videos in MEDIA_DIR, which have hand-made truth. For each clip the weights of
`annotators.lips.speaking` are fitted on the other clips (and on the sets named by `--with`), the towers of the
lip-audio sync on the other clips and on the talkers of `--talkers` (a dataset as `lip_sync.py` scans it); stages from
active_speaker to pairing then run again on the clip alone, from the dataset's own tables. The calibration of the sync
towers is the shipped model's. About half a second of CPU a second of video.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
from accuracy import finished
from fit_speaking import Labelled, as_json, fitted, labelled
from found_tracks import found_tracks
from lip_sync import EDITED, conversations, stretches
from points import points
from state_score import baseline_score, state_score

from annotators.lips.lip_sync_model import MODEL_FILE as SYNC_FILE
from annotators.lips.lip_sync_model import SyncTowers, load_towers, model_path, save_towers
from annotators.lips.lip_sync_training import TAPS, TalkerClip, fit
from annotators.lips.speaking import MODEL_FILE
from annotators.lips.sync_audio import WhisperSyncAudio
from curation import Dataset
from curation.memory import run_chain
from curation.stage import Stage
from schemas import tables as t
from schemas.table import Table
from stages.attribution.attribution import Attribution, AttributionSettings
from stages.pairing.pairing import Pairing, PairingSettings
from stages.speech.active_speaker import ActiveSpeakerSettings, ActiveSpeakerStage
from workflows.talkers import talker_clips

KIND = "whisper-base"


def sync_without(clip: str, clips: list[TalkerClip], shipped: SyncTowers) -> SyncTowers:
    """Return towers fitted without a clip, with the shipped correlations and calibration."""
    towers = fit([c for c in clips if c.person != clip], TAPS[KIND])
    return replace(towers, correlation=shipped.correlation, per_frame=shipped.per_frame, own_voice=shipped.own_voice)


def tables_of(dataset: Dataset, source: str) -> dict[Table, list[Any]]:
    """Return what the stages read of one source, window by window."""
    stages: tuple[type[Stage], ...] = (ActiveSpeakerStage, Attribution, Pairing)
    wanted = {x for s in stages for x in s.reads} - {x for s in stages for x in s.writes}
    return {
        table: [dataset.store.read_table(f, table) for f in dataset.files(table) if Path(f).name.startswith(source)]
        for table in wanted
    }


def again(dataset: Dataset, source: str, media: Path) -> list[dict[str, Any]]:
    """Return TIMELINE rows of one source, worked out again with the models now in OPENLPM_MODELS."""
    stages = [
        ActiveSpeakerStage(ActiveSpeakerSettings()), Attribution(AttributionSettings()), Pairing(PairingSettings())
    ]  # fmt: skip
    parts = run_chain(media, stages, source_id=source, tables=tables_of(dataset, source))
    return [row for part in parts[t.TIMELINE] for row in part.to_pylist()]


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("pair", metavar="DATASET=MEDIA_DIR")
    parser.add_argument("--with", dest="others", action="append", default=[], metavar="DATASET=MEDIA_DIR")
    parser.add_argument("--talkers", help="a dataset of talkers in sync")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    name, _, media = args.pair.partition("=")
    dataset = Dataset(name)
    truths = finished(dataset, Path(media))
    paths = {r["source_id"]: Path(r["path"]) for r in dataset.table(t.INPUTS).to_pylist()}
    tracks: list[Labelled] = []
    for pair in [args.pair, *args.others]:
        one, _, where = pair.partition("=")
        tracks += labelled(Dataset(one), Path(where))
    kinds = {KIND: WhisperSyncAudio()}
    clips = talker_clips(*conversations(args.pair), kinds)[KIND]
    if args.talkers is not None:
        talkers = Dataset(args.talkers)
        seen = stretches(talkers)
        talking = [s[0] for n, s in seen.items() if n.startswith(("generated", "real")) or n in EDITED]
        clips += talker_clips(talkers, talking, kinds)[KIND]
    shipped = load_towers(model_path())
    every = []
    with tempfile.TemporaryDirectory(prefix="openlpm-left-out-") as scratch:
        os.environ["OPENLPM_MODELS"] = os.pathsep.join([scratch, os.environ.get("OPENLPM_MODELS", "")])
        for source, truth in truths.items():
            towers = shipped | {KIND: sync_without(truth.clip, clips, shipped[KIND])}
            save_towers(Path(scratch, SYNC_FILE), towers, {"without": truth.clip})
            model = fitted([m for m in tracks if m.clip != truth.clip and m.kind == "lr-asd"], "lr-asd")
            Path(scratch, MODEL_FILE).write_text(json.dumps({"sets": {"lr-asd": as_json(model)}}))
            found = found_tracks(dataset, [source], again(dataset, source, paths[source]))[source]
            every += points(truth, found)
            print(truth.clip, flush=True)
    result = {"states": state_score(every), "baseline": baseline_score(every)}
    for part in ("states", "baseline"):
        shown = result[part]
        print(f"{part}: {shown['accuracy']:.4f} over {shown['frames']} frames, recall {shown['recall']}, "
              f"precision {shown['precision']}")  # fmt: skip
    record.write(args.json, result | {"run": {"command": "python benchmarks/left_out.py ...", **record.today_here()}})


if __name__ == "__main__":
    main()
