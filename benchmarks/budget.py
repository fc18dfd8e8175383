"""What a streamed block costs by part, and what share of one H200 that is, for the large presets, without a GPU.

    python benchmarks/budget.py [--efficiency 0.5] [--bandwidth 0.7] [--json FILE]

`lpm_train.tools.budget` counts operations and bytes; the shares follow from the data sheet's peaks and the two assumed
efficiencies. Streams beside the presets' own: more steps, a shorter window, smaller pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import record

from lpm_train.config import override
from lpm_train.presets import PRESETS
from lpm_train.tools.budget import lines, stream_budget

STREAMS = {
    "as it is": [],
    "4 steps": ["stream.steps=4"],
    "window 6": ["stream.window=6"],
    "window 6, 512x512": ["stream.window=6", "data.height=512", "data.width=512"],
}
"""Streams: settings over a preset."""


def rounded(value: Any) -> Any:
    """Keep four digits of every number."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--presets", default="h200_1b3,wan_1b3,wan_14b")
    parser.add_argument("--efficiency", type=float, default=0.5)
    parser.add_argument("--bandwidth", type=float, default=0.7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = {
        **record.today_here(), "counted, not measured": True, "efficiency": args.efficiency,
        "bandwidth": args.bandwidth, "streams": {},
    }  # fmt: skip
    for preset in args.presets.split(","):
        for name, settings in STREAMS.items():
            config = override(PRESETS[preset](), settings)
            found = stream_budget(config)
            tables = {f"{fps:g}": found.table(fps, args.efficiency, args.bandwidth) for fps in (24.0, 50.0)}
            print(f"== {preset}, {name}, {config.data.width}x{config.data.height}, {config.stream.steps} steps")
            for table in tables.values():
                print("\n".join(lines(table)))
            result["streams"][f"{preset}, {name}"] = {"cache_gb": found.cache_bytes / 1e9, "fps": tables}
    record.write(args.json, rounded(result))


if __name__ == "__main__":
    main()
