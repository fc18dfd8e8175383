"""One clock for the files of a session: from pairwise alignments to each file's offset and drift. Pure, costs nothing.

Files are joined along the most confident links first (a maximum spanning tree); files that no link of enough
confidence reaches are groups of their own, each with its own reference file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotators.sound.session_align import Alignment


@dataclass(frozen=True, slots=True)
class Clock:
    """A file's clock on that of its reference: t_session = t * (1 + drift) + offset_s; null drift counts as 0."""

    reference: str
    offset_s: float = 0.0
    drift_ppm: float | None = None
    confidence: float | None = None

    @property
    def rate(self) -> float:
        """Seconds of the session in a second of this file."""
        return 1.0 + 1e-6 * (self.drift_ppm or 0.0)

    def session_s(self, t_s: float) -> float:
        """Return the session time of this file's time."""
        return t_s * self.rate + self.offset_s


def clocks(files: Sequence[str], links: Mapping[tuple[str, str], Alignment], min_confidence: float) -> dict[str, Clock]:
    """Return a clock a file.

    Args:
        files: names, each once.
        links: (first, second) -> where second lies on the clock of first, for each pair once.
        min_confidence: links below it do not count.

    The reference of a group is the file with the most confidence in its links; of equals the smallest name.
    """
    good = {pair: a for pair, a in links.items() if a.confidence >= min_confidence}
    tree = _tree(sorted(files), good)
    total = {f: sum(a.confidence for pair, a in good.items() if f in pair) for f in files}
    out: dict[str, Clock] = {}
    for root in sorted(files, key=lambda f: (-total[f], f)):
        if root in out:
            continue
        out[root] = Clock(root)
        open_files = [root]
        while open_files:
            parent = open_files.pop()
            for child in tree[parent]:
                if child not in out:
                    link = good.get((parent, child)) or inverse(good[child, parent])
                    out[child] = _joined(out[parent], link)
                    open_files.append(child)
    return out


def inverse(a: Alignment) -> Alignment:
    """Return the same alignment seen from the other file."""
    rate = 1.0 + 1e-6 * (a.drift_ppm or 0.0)
    drift = None if a.drift_ppm is None else 1e6 * (1.0 / rate - 1.0)
    return Alignment(-a.offset_s / rate, drift, a.confidence, a.evidence_s)


def _tree(files: Sequence[str], good: Mapping[tuple[str, str], Alignment]) -> dict[str, list[str]]:
    """Return neighbours in a maximum spanning forest (Kruskal)."""
    group = {f: f for f in files}
    near: dict[str, list[str]] = {f: [] for f in files}
    for (a, b), _ in sorted(good.items(), key=lambda x: (-x[1].confidence, x[0])):
        if group[a] != group[b]:
            old = group[b]
            group = {f: group[a] if g == old else g for f, g in group.items()}
            near[a].append(b)
            near[b].append(a)
    return {f: sorted(n) for f, n in near.items()}


def _joined(parent: Clock, link: Alignment) -> Clock:
    rate = parent.rate * (1.0 + 1e-6 * (link.drift_ppm or 0.0))
    unknown = parent.drift_ppm is None and link.drift_ppm is None
    least = link.confidence if parent.confidence is None else min(link.confidence, parent.confidence)
    return Clock(
        parent.reference, link.offset_s * parent.rate + parent.offset_s, None if unknown else 1e6 * (rate - 1), least
    )
