"""Who listens to whom across the files of one session: partners, exchanges, and states that another file corrects.

Each participant's own microphone and camera are trusted for their own speech. A voice that is the same in two files
belongs where it is louder: a face that seemed to speak with a voice that is louder in somebody else's file, while that
person speaks, was listening. Pure; costs milliseconds an hour.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.sessions import SessionPairRow
from schemas.time import Interval, merge, union_s
from stages.row_traits import Timed
from stages.sources.session_clock import Clock
from stages.sources.session_sound import SessionSound

_SPEAKING = ("speak", "both")


@dataclass(frozen=True, slots=True)
class PairRules:
    """When segments of two files are one exchange."""

    min_shared_s: float = 0.5
    min_share: float = 0.5
    min_match: float = 0.35
    leak_gap_db: float = 6.0


@dataclass(frozen=True, slots=True)
class SessionFile:
    """One file of a session: tables' rows on its own clock, and its sound on the session's."""

    source_id: str
    segments: Sequence[SegmentRow]
    timeline: Sequence[TimelineRow]
    sound: SessionSound

    @property
    def clock(self) -> Clock:
        """The file's clock."""
        return self.sound.clock

    def span(self, row: Timed) -> Interval:
        """Return a row's time on the session's clock."""
        return Interval(self.clock.session_s(row.start_s), self.clock.session_s(row.end_s))


def session_pairs(session: str, files: Sequence[SessionFile], rules: PairRules) -> list[SessionPairRow]:
    """Return SESSION_PAIRS rows of files that lie on one clock.

    A listener's partner is the track of another file that speaks longest while it listens, unless the speaker is in
    view in its own file. A speaker's partner is the track of another file that listens to it longest. Idle segments
    of which somebody in another file speaks through at least `min_share` were listening to what their own microphone
    did not get. Exchanges that share a segment, in whichever file, are one.
    """
    speech = {f.source_id: _speech(f) for f in files}
    rows: dict[str, SessionPairRow] = {}
    leaked: dict[str, list[Interval]] = defaultdict(list)
    for f in files:
        for seg in f.segments:
            found = _leaked(f, seg, files, speech, rules)
            if found is not None:
                leaked[seg.track_id].append(f.span(seg))
                rows[seg.segment_id] = _row(session, f, seg, "listen", "leaked_voice", *found)
    for track, spans in leaked.items():
        for of in speech.values():
            if track in of:
                of[track] = _without(of[track], spans)
    for f in files:
        for seg in f.segments:
            if seg.segment_id not in rows and seg.state in ("listen", "idle"):
                row = _listener(session, f, seg, files, speech, rules)
                if row is not None:
                    rows[seg.segment_id] = row
    answers, links = _answers(session, files, rows, rules)
    return _named(session, files, {**rows, **answers}, links)


def _speech(f: SessionFile) -> dict[str, list[Interval]]:
    out: dict[str, list[Interval]] = defaultdict(list)
    for run in f.timeline:
        if run.state in _SPEAKING:
            out[run.track_id].append(f.span(run))
    return {track: merge(spans) for track, spans in out.items()}


Speech = Mapping[str, Mapping[str, Sequence[Interval]]]
Found = tuple[str, float, float | None, float | None]
"""(partner's track, shared seconds, match, gap in dB)"""


def _best(f: SessionFile, seg: SegmentRow, files: Sequence[SessionFile], speech: Speech) -> Found | None:
    """Return the track of another file that speaks longest during a segment, with how the two files sound then."""
    span = f.span(seg)
    found: list[tuple[float, str, SessionFile, list[Interval]]] = []
    for other in files:
        if other.source_id == f.source_id:
            continue
        for track, spans in speech[other.source_id].items():
            shared = _shared(span, spans)
            if shared:
                found.append((-union_s(shared), track, other, shared))
    if not found:
        return None
    shared_s, track, other, shared = min(found, key=lambda x: x[:2])
    longest = max(shared, key=lambda i: i.duration_s)
    heard = f.sound.compare(other.sound, longest.start_s, longest.end_s)
    match, gap = heard if heard is not None else (None, None)
    return track, -shared_s, match, gap


def _leaked(
    f: SessionFile, seg: SegmentRow, files: Sequence[SessionFile], speech: Speech, rules: PairRules
) -> Found | None:
    """Return the true speaker when a segment's speech is another file's voice, fainter here than there."""
    if seg.state not in _SPEAKING:
        return None
    found = _best(f, seg, files, speech)
    if found is None:
        return None
    _, shared_s, match, gap = found
    same = bool(match is not None and gap is not None and match >= rules.min_match and gap <= -rules.leak_gap_db)
    return found if same and shared_s >= rules.min_share * f.span(seg).duration_s else None


def _listener(
    session: str,
    f: SessionFile,
    seg: SegmentRow,
    files: Sequence[SessionFile],
    speech: Speech,
    rules: PairRules,
) -> SessionPairRow | None:
    if seg.partner_track_id is not None:
        return None
    found = _best(f, seg, files, speech)
    if found is None or found[1] < rules.min_shared_s:
        return None
    if seg.state == "listen":
        return _row(session, f, seg, "listen", "partner_speaks", *found)
    if found[1] < rules.min_share * f.span(seg).duration_s:
        return None
    return _row(session, f, seg, "listen", "unheard_partner", *found)


def _answers(
    session: str, files: Sequence[SessionFile], rows: Mapping[str, SessionPairRow], rules: PairRules
) -> tuple[dict[str, SessionPairRow], list[tuple[str, str]]]:
    """Return rows for the speakers who are listened to, and pairs of segment ids that are one exchange."""
    home = {f.source_id: f for f in files}
    listeners = [(home[r.source_id], r) for r in rows.values()]
    spans = {s.segment_id: (f.span(s), s) for f in files for s in f.segments}
    out: dict[str, SessionPairRow] = {}
    links = []
    for f in files:
        for seg in f.segments:
            if seg.state not in _SPEAKING or seg.segment_id in rows:
                continue
            span = f.span(seg)
            mine = []
            for other, r in listeners:
                at, listener = spans[r.segment_id]
                shared_s = span.overlap_s(at)
                if r.session_partner_track_id == seg.track_id and shared_s >= rules.min_shared_s:
                    links.append((seg.segment_id, r.segment_id))
                    mine.append((-shared_s, listener.track_id, other, at))
            if not mine:
                continue
            shared_s, track, other, at = min(mine, key=lambda x: x[:2])
            heard = f.sound.compare(other.sound, max(span.start_s, at.start_s), min(span.end_s, at.end_s))
            match, gap = heard if heard is not None else (None, None)
            if seg.partner_track_id is not None:
                track = seg.partner_track_id  # somebody in the same picture listens too
            out[seg.segment_id] = _row(session, f, seg, seg.state, "partner_listens", track, -shared_s, match, gap)
    return out, links


def _row(
    session: str,
    f: SessionFile,
    seg: SegmentRow,
    state: str,
    reason: str,
    track: str,
    shared_s: float,
    match: float | None,
    gap: float | None,
) -> SessionPairRow:
    """Return a row without its exchange, which is known at the end."""
    return SessionPairRow(
        segment_id=seg.segment_id,
        source_id=f.source_id,
        session=session,
        session_state=state,
        session_reason=reason,
        session_partner=f"track:{track}",
        session_partner_track_id=track,
        session_pair_id="",
        shared_s=shared_s,
        sound_match=match,
        level_gap_db=gap,
    )


def _named(
    session: str,
    files: Sequence[SessionFile],
    found: Mapping[str, SessionPairRow],
    links: Iterable[tuple[str, str]],
) -> list[SessionPairRow]:
    """Return rows with `session_pair_id`; segments that shared an exchange with a renamed one get rows too."""
    rows = dict(found)
    segments = {s.segment_id: (f, s) for f in files for s in f.segments}
    group = {k: k for k in rows}

    def root(k: str) -> str:
        while group[k] != k:
            k = group[k]
        return k

    for a, b in links:
        if a in rows and b in rows:
            group[max(root(a), root(b))] = min(root(a), root(b))
    exchanges: dict[str, list[str]] = defaultdict(list)
    for k, (_, s) in sorted(segments.items()):
        if s.pair_id is not None:
            exchanges[s.pair_id].append(k)
    for members in exchanges.values():
        # An exchange with an off-screen voice falls apart where its listeners now have faces to listen to.
        rest = [k for k in members if k not in rows]
        if rest and (known := [k for k in members if k in rows]):
            for k in rest:
                f, s = segments[k]
                row = _row(session, f, s, s.state, "exchange", "", 0.0, None, None)
                rows[k] = row.but(session_partner=s.partner, session_partner_track_id=s.partner_track_id)
                group[k] = k
            for k in [*known[1:], *rest]:
                group[max(root(k), root(known[0]))] = min(root(k), root(known[0]))
    head = "x" + hashlib.sha256("\n".join([session, *sorted(f.source_id for f in files)]).encode()).hexdigest()[:15]
    names: dict[str, str] = {}
    order = sorted(rows, key=lambda k: (segments[k][0].span(segments[k][1]).start_s, k))
    for k in order:
        rows[k] = rows[k].but(session_pair_id=names.setdefault(root(k), f"{head}-p{len(names):04d}"))
    return [rows[k] for k in sorted(rows)]


def _shared(span: Interval, spans: Iterable[Interval]) -> list[Interval]:
    cut = [Interval(max(span.start_s, i.start_s), min(span.end_s, i.end_s)) for i in spans if span.overlap_s(i) > 0]
    return [i for i in cut if i.duration_s > 0]


def _without(spans: Sequence[Interval], holes: Sequence[Interval]) -> list[Interval]:
    """Return what of `spans` lies outside of `holes`."""
    out = list(spans)
    for h in holes:
        parts = [(Interval(i.start_s, min(i.end_s, h.start_s)), Interval(max(i.start_s, h.end_s), i.end_s))
                 if i.overlap_s(h) > 0 and i.start_s < h.start_s and i.end_s > h.end_s
                 else (_left(i, h),) for i in out]  # fmt: skip
        out = [p for group in parts for p in group if p.duration_s > 0]
    return out


def _left(i: Interval, h: Interval) -> Interval:
    """Return what a hole that does not lie inside leaves of an interval."""
    if i.overlap_s(h) == 0:
        return i
    if h.start_s > i.start_s:
        return Interval(i.start_s, h.start_s)
    return Interval(min(h.end_s, i.end_s), i.end_s)
