"""How often chance aligns recordings that share no sound, and how surely a faint leak does.

Made conversations of `tests/support/session_factory.py`: two people take turns, each with a microphone, a clock
and noise.
`alternating` shares turns but no sound, `unrelated` nothing, `leak` lets each voice reach the other microphone 10 to
30 dB fainter. Prints how confidences are spread, and for `leak` how many offsets are wrong by over 10 ms.

    PYTHONPATH=tests/support .venv/bin/python benchmarks/session_align.py [--json benchmarks/results/session_align.json]
"""

from __future__ import annotations

from multiprocessing import Pool
from pathlib import Path

import numpy as np
import record
from session_factory import conversation

from annotators.sound.session_align import align
from stages.sources.sessions import SessionsSettings

DRAWS = {20.0: 5000, 30.0: 500, 60.0: 3000, 300.0: 600}


def draw(job: tuple[str, float, int]) -> tuple[float, bool]:
    """Align one made pair; -> (confidence, the offset is right)."""
    kind, length_s, seed = job
    rng = np.random.default_rng(seed)
    offset_s, leak_db = float(rng.uniform(-1.5, 1.5)), float(rng.uniform(-30, -10))
    first, second = conversation(seed, length_s, offset_s, 0.0, leak_db if kind == "leak" else -300.0)
    if kind == "unrelated":
        first, second = (conversation(seed + k, length_s, 0.0, 0.0, -20.0)[k > 0] for k in (0, 20_000))
    found = align(first, second)
    return found.confidence, abs(found.offset_s - offset_s) <= 0.01


def main() -> None:
    """Measure, print, and write."""
    parser = record.parser(__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    limit = SessionsSettings().min_confidence
    rows = {}
    with Pool() as pool:
        for kind in ("alternating", "unrelated", "leak"):
            for length_s, n in DRAWS.items():
                n = min(n, 500) if kind == "leak" else n
                found = pool.map(draw, [(kind, length_s, seed) for seed in range(n)], chunksize=20)
                confidence = np.array([c for c, _ in found])
                row = {
                    "draws": n,
                    "aligned": int((confidence >= limit).sum()),
                    "confidence_min_p1_p50_p99_max": np.quantile(confidence, (0, 0.01, 0.5, 0.99, 1)).round(3).tolist(),
                }
                if kind == "leak":
                    row["wrong_by_over_10_ms"] = sum(not right for _, right in found)
                rows[f"{kind} {length_s:g} s"] = row
                print(f"{kind:12s} {length_s:4g} s", row, flush=True)
    record.write(arguments.json, record.today_here() | {"limit": limit, "rows": rows})


if __name__ == "__main__":
    main()
