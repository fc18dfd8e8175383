"""What a second of video costs, for `lpm plan`: from finished runs, and how well one set of footage foretells another.

    python benchmarks/rates.py DATASET [OTHER] [--larger SMALL LARGE] [--name FILE]

DATASET was made by `lpm run` in one run or several; its rates are written to FILE (`workflows/rates/WORKFLOW.json` is
what ships). With OTHER, made by the same workflow and policy of other footage, each one's work is also estimated by the
other's rates and held against what its log says: a plan's error on footage that it has not seen. What larger pictures
cost each stage is measured where SMALL and LARGE were made of the same footage in two sizes.
"""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import record

from curation import Dataset
from curation.plan.estimate import estimate
from curation.plan.rates import Rates, measured, with_slopes
from curation.plan.survey import Survey

_NOISE = 0.05


def by_pixels(rates: Rates, smaller: Rates, larger: Rates) -> Rates:
    """Return rates with what pixels cost, from the same footage in two sizes.

    What is less than a twentieth of all that larger pictures cost is taken for noise. Raises ValueError where the
    pictures are not larger.
    """
    pixels = (larger.pixels_per_s or 0.0) - (smaller.pixels_per_s or 0.0)
    if pixels <= 0:
        raise ValueError("the footage that is to show what larger pictures cost has no larger pictures")
    small, large = ({r.stage: r.cpu_s for r in x.stages} for x in (smaller, larger))
    slopes = {s: max(0.0, large[s] - small[s]) / pixels * 1e9 for s in small.keys() & large.keys()}
    least = _NOISE * sum(slopes.values())
    return with_slopes(rates, {stage: round(slope, 2) for stage, slope in slopes.items() if slope > least})


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("dataset")
    parser.add_argument("other", nargs="?")
    parser.add_argument("--larger", nargs=2)
    parser.add_argument("--name", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    today = datetime.date.today().isoformat()
    here = (
        f"measured {today} on {os.cpu_count()} shared cores, {platform.machine()}, Python {platform.python_version()}"
    )
    mine = measured(Dataset(args.dataset), here)
    if args.larger:
        mine = by_pixels(mine, *(measured(Dataset(d), here) for d in args.larger))
    if args.name:
        args.name.write_text(record.as_json(mine.model_dump(mode="json")), encoding="utf-8")
    result = {**record.today_here(), "rates": mine.model_dump(mode="json")}
    if args.other:
        theirs = measured(Dataset(args.other), here)
        slopes = {r.stage: r.cpu_s_per_gigapixel for r in mine.stages}
        result["foretold"] = [foretold(mine, theirs), foretold(with_slopes(theirs, slopes), mine)]
    print(record.as_json(result))
    record.write(args.json, result)


def foretold(rates: Rates, true: Rates) -> dict[str, float]:
    """Return the CPU seconds that one set's rates foretell for the other, and what they really were."""
    pixels = (true.pixels_per_s or 0.0) * true.video_s
    there = Survey(true.sources, 0, true.sources, 0, true.video_s, 0.0, pixels)
    said = estimate(there, rates, 120.0).total_s
    took = sum(r.cpu_s for r in true.stages) * true.video_s
    return {"foretold_cpu_s": round(said), "took_cpu_s": round(took), "ratio": round(said / took, 3)}


if __name__ == "__main__":
    main()
