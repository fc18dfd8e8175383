"""What is asked of every clip: SQL over the tables that the stages wrote, with limits as parameters.

Each question gives rows `clip, other, value, expected, start_s, end_s, method`; `expected` is what is declared or what
most clips have, where the value is held against that. `VIEWS` are made first.
"""

from __future__ import annotations

from dataclasses import dataclass

VIEWS = """
CREATE TEMP VIEW clip AS
  SELECT f.*, i.source_id FROM foreign_clips f JOIN inputs i USING (path)
  WHERE f.reason IS NULL AND i.source_id IN (SELECT source_id FROM sources)
    AND i.source_id NOT IN (SELECT source_id FROM errors WHERE unit_id = source_id);
CREATE TEMP VIEW face AS  -- the person whom a clip is of
  SELECT source_id, arg_max(track_id, duration_s * visible_ratio * face_area) AS track_id FROM tracks
  WHERE visible_ratio >= 0.2 AND duration_s >= 0.5 GROUP BY source_id;
CREATE TEMP VIEW spoken AS  -- how long each face speaks, and how, by what decided it
  SELECT l.source_id, l.track_id,
    coalesce(sum(end_s - start_s) FILTER (state IN ('speak', 'both')), 0) AS own_s,
    coalesce(sum(end_s - start_s) FILTER (reason = 'foreign_voice'), 0) AS foreign_s,
    coalesce(sum(end_s - start_s) FILTER (reason = 'lips_without_voice'), 0) AS unvoiced_s,
    min(start_s) FILTER (reason = 'foreign_voice') AS foreign_from,
    min(start_s) FILTER (reason = 'lips_without_voice') AS unvoiced_from
  FROM timeline l GROUP BY ALL;
CREATE TEMP TABLE seen AS  -- each face of a clip as one vector, and who the clustering takes it for
  SELECT c.clip, c.identity, c.source_id, v.track_id, v.annotator, v.vector, i.identity_id AS person
  FROM clip c JOIN (
    SELECT source_id, track_id, any_value(annotator) AS annotator, list(x ORDER BY i) AS vector FROM (
      SELECT source_id, track_id, annotator, i, avg(x) AS x FROM (
        SELECT source_id, track_id, annotator, unnest(embedding) AS x, generate_subscripts(embedding, 1) AS i
        FROM face_embeddings JOIN tracks USING (source_id, track_id) WHERE visible_ratio >= 0.2 AND duration_s >= 0.5)
      GROUP BY ALL)
    GROUP BY source_id, track_id) v USING (source_id)
  LEFT JOIN track_identities i USING (track_id)
  WHERE c.identity IS NOT NULL;
CREATE TEMP TABLE home AS  -- whom most clips of an id show; no row where two people share the first place
  SELECT identity, any_value(person) AS person FROM (
    SELECT identity, person, rank() OVER (PARTITION BY identity ORDER BY count(DISTINCT clip) DESC) AS place
    FROM seen WHERE person IS NOT NULL GROUP BY identity, person)
  WHERE place = 1 GROUP BY identity HAVING count(*) = 1;
CREATE TEMP TABLE anchor AS  -- a few faces of each id to compare with
  SELECT s.* FROM seen s LEFT JOIN home h USING (identity) WHERE h.person IS NULL OR h.person = s.person
  QUALIFY row_number() OVER (PARTITION BY s.identity ORDER BY hash(s.track_id), s.track_id) <= 5;
CREATE TEMP TABLE apart AS  -- how far each clip's nearest face lies from the middle one of an id's other clips
  SELECT clip, identity, id, min(distance) AS distance, arg_min(other, distance) AS other, any_value(method) AS method
  FROM (
    SELECT a.clip, a.track_id, a.identity, b.identity AS id, median(list_distance(a.vector, b.vector)) AS distance,
      arg_min(b.clip, list_distance(a.vector, b.vector)) AS other, any_value(a.annotator) AS method
    FROM seen a JOIN anchor b ON a.source_id <> b.source_id AND a.annotator = b.annotator GROUP BY ALL)
  GROUP BY clip, identity, id;
CREATE TEMP TABLE moves AS  -- how each clip's face moves
  SELECT f.source_id, f.k, f.mouth_open, f.eye_open, f.yaw_deg, f.pitch_deg
  FROM face_frames f JOIN tracklets USING (source_id, tracklet_id) JOIN face USING (source_id, track_id)
  WHERE f.has_mesh AND f.source_id IN (SELECT source_id FROM clip);
CREATE TEMP TABLE recording AS  -- pairs that the hashes take for one recording, or that may be one
  WITH known AS (
    SELECT DISTINCT s.source_id, s.duration_s, from_hex(s.perceptual_hash)::BIT AS bits, i.identity_id AS person
    FROM sources s JOIN face USING (source_id) JOIN track_identities i USING (track_id)
    WHERE s.source_id IN (SELECT source_id FROM moves) AND s.perceptual_hash <> ''),
  pair AS (
    SELECT a.source_id AS a, b.source_id AS b, false AS told FROM known a JOIN known b
      ON a.person = b.person AND a.source_id < b.source_id AND abs(a.duration_s - b.duration_s) <= 0.1
    WHERE bit_length(a.bits) = bit_length(b.bits) AND bit_count(xor(a.bits, b.bits)) <= 0.1 * bit_length(a.bits)
    UNION SELECT near_duplicate_of, source_id, true FROM duplicates WHERE near_duplicate_of IS NOT NULL),
  moved AS (
    SELECT p.a, p.b, list_median(list_filter([corr(x.mouth_open, y.mouth_open), corr(x.eye_open, y.eye_open),
      corr(x.yaw_deg, y.yaw_deg), corr(x.pitch_deg, y.pitch_deg)], lambda r: isfinite(r))) AS alike
    FROM (SELECT DISTINCT a, b FROM pair) p
    JOIN moves x ON x.source_id = p.a JOIN moves y ON y.source_id = p.b AND y.k = x.k
    GROUP BY p.a, p.b HAVING count(*) >= 50)
  SELECT p.a, p.b, any_value(alike) AS alike, bool_or(told) AS told,
    if(any_value(alike) IS NULL, 'perceptual hash, speech', 'movement of the face') AS method
  FROM pair p LEFT JOIN moved m ON m.a = p.a AND m.b = p.b GROUP BY p.a, p.b;
"""


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        finding: what it finds, as a person asks for it.
        measure: the column that the value is of.
        limit: the limit's name; '' where any row is a finding.
        unit: of the value.
        says: the sentence, with the row's columns and `limit`.
        sql: see the module.
    """

    finding: str
    measure: str
    limit: str
    unit: str
    says: str
    sql: str


_NONE = "NULL AS other, NULL AS expected, NULL AS start_s, NULL AS end_s"


def _differs(finding: str, measured: str, declared: str, limit: str, unit: str, what: str, bound: str) -> Question:
    return Question(
        finding, f"sources.{measured}", limit, unit, f"{what} is {{value:.6g}}, declared as {{expected:.6g}}",
        f"SELECT clip, NULL AS other, s.{measured} AS value, c.declared_{declared} AS expected, NULL AS start_s, "
        "NULL AS end_s, 'container' AS method FROM clip c JOIN sources s USING (source_id) "
        f"WHERE abs(s.{measured} - c.declared_{declared}) > {bound}",
    )  # fmt: skip


def _odd(measured: str, declared: str, unit: str, what: str, rounded: str) -> Question:
    """Ask for clips whose rate is not that of nearly all others, where nothing is declared of them."""
    return Question(
        "wrong_rate", f"sources.{measured}", "majority", unit,
        f"{what} is {{value:.6g}}, that of most clips {{expected:.6g}}",
        f"""
        WITH rate AS (
          SELECT clip, c.declared_{declared} AS declared, s.{measured} AS value, {rounded} AS near
          FROM clip c JOIN sources s USING (source_id) WHERE s.{measured} > 0),
        usual AS (
          SELECT near, median(value) AS expected FROM rate GROUP BY near
          HAVING count(*) >= $majority_clips AND count(*) >= $majority * (SELECT count(*) FROM rate))
        SELECT clip, NULL AS other, value, expected, NULL AS start_s, NULL AS end_s, 'container' AS method
        FROM rate, usual WHERE declared IS NULL AND abs(value / expected - 1) > $rate_gap""",
    )  # fmt: skip


_LENGTH = "greatest($length_gap_s, $length_gap_ratio * s.duration_s)"
_WRONG_FACE = """
  WITH own AS (SELECT clip, identity, distance, other, method FROM apart WHERE id = identity),
  rival AS (
    SELECT clip, identity, min(distance) AS distance, arg_min(id, distance) AS id, arg_min(other, distance) AS other,
      any_value(method) AS method
    FROM apart WHERE id <> identity GROUP BY clip, identity)
"""

QUESTIONS = (
    Question(
        "unreadable_metadata", "metadata", "", "", "its metadata cannot be read: {other}",
        "SELECT clip, facts_error AS other, NULL AS value, NULL AS expected, NULL AS start_s, NULL AS end_s, "
        "'container' AS method FROM clip WHERE facts_error IS NOT NULL",
    ),
    _differs("wrong_rate", "fps", "fps", "rate_gap", "1/s", "the frame rate", "$rate_gap * c.declared_fps"),
    _odd("fps", "fps", "1/s", "the frame rate", "round(s.fps)"),
    _differs("wrong_rate", "audio_rate_hz", "rate_hz", "rate_gap", "Hz", "the sound's rate",
             "$rate_gap * c.declared_rate_hz AND s.has_audio"),
    _odd("audio_rate_hz", "rate_hz", "Hz", "the sound's rate", "s.audio_rate_hz"),
    _differs("wrong_rate", "duration_s", "duration_s", "length_gap_s", "s", "the length", _LENGTH),
    _differs("wrong_rate", "n_frames", "n_frames", "rate_gap", "", "the number of frames",
             "greatest(1, $rate_gap * c.declared_n_frames)"),
    Question(
        "wrong_rate", "sources.audio_duration_s", "length_gap_s", "s",
        "the sound ends at {value:.2f} s, the picture at {expected:.2f} s",
        "SELECT clip, NULL AS other, audio_start_s + audio_duration_s AS value, duration_s AS expected, "
        "NULL AS start_s, NULL AS end_s, 'container' AS method FROM clip JOIN sources s USING (source_id) "
        f"WHERE has_audio AND abs(audio_start_s + audio_duration_s - s.duration_s) > {_LENGTH}",
    ),
    Question(
        "silent_track", "sources.has_audio", "", "", "the clip has no sound",
        f"SELECT clip, 0 AS value, {_NONE}, 'container' AS method FROM clip JOIN sources USING (source_id) "
        "WHERE NOT has_audio",
    ),
    Question(
        "silent_track", "audio.silence_ratio", "silent_ratio", "0-1", "{value:.0%} of the sound is silence",
        f"SELECT clip, silence_ratio AS value, {_NONE}, 'level' AS method FROM clip JOIN audio a USING (source_id) "
        "WHERE a.has_audio AND silence_ratio >= $silent_ratio",
    ),
    Question(
        "silent_track", "timeline.reason", "unvoiced_s", "s", "lips speak for {value:.1f} s and no voice is heard",
        "SELECT clip, NULL AS other, unvoiced_s AS value, NULL AS expected, unvoiced_from AS start_s, NULL AS end_s, "
        "(SELECT any_value(annotator) FROM asd_frames) AS method "
        "FROM clip c JOIN face USING (source_id) JOIN spoken USING (track_id) "
        "JOIN audio a ON a.source_id = c.source_id "
        "WHERE a.has_audio AND silence_ratio < $silent_ratio AND unvoiced_s >= $unvoiced_s "
        "AND unvoiced_s >= $unvoiced_ratio * (own_s + foreign_s + unvoiced_s)",
    ),
    Question(
        "silent_track", "channel_frames.level_db", "silent_ratio", "0-1",
        "the {other} track is silent for {value:.0%} of a clip that is declared as {expected}",
        "SELECT clip, if(channel = 0, 'speak', 'listen') AS other, avg((f.level_db < -60)::INT) AS value, "
        "any_value(c.declared_state) AS expected, NULL AS start_s, NULL AS end_s, 'level' AS method "
        "FROM clip c JOIN channel_frames f USING (source_id) JOIN audio a USING (source_id) "
        "WHERE c.tracks AND channel < 2 AND a.silence_ratio < $silent_ratio "
        "AND (c.declared_state IN ('speak', 'both') AND channel = 0 "
        "OR c.declared_state IN ('listen', 'both') AND channel = 1) "
        "GROUP BY clip, channel HAVING value >= $silent_ratio",
    ),
    Question(
        "swapped_tracks", "channel_frames.level_db", "swap_db", "dB",
        "where these lips speak (or listen) the wrong track is {value:.0f} dB louder than the right one",
        """
        WITH heard AS (
          SELECT clip, l.start_s, CASE WHEN l.state IN ('speak') THEN 1 ELSE -1 END
            * (greatest(b.level_db, -70) - greatest(a.level_db, -70)) AS gap_db
          FROM clip c JOIN face USING (source_id) JOIN timeline l USING (track_id)
          JOIN channel_frames a ON a.source_id = c.source_id AND a.channel = 0
            AND a.k / 25.0 >= l.start_s AND a.k / 25.0 < l.end_s
          JOIN channel_frames b ON b.source_id = a.source_id AND b.channel = 1 AND b.k = a.k
          WHERE c.tracks AND l.state IN ('speak', 'listen') AND greatest(a.level_db, b.level_db) > -50)
        SELECT clip, NULL AS other, avg(gap_db) AS value, NULL AS expected, min(start_s) AS start_s, NULL AS end_s,
          (SELECT any_value(annotator) FROM asd_frames) AS method
        FROM heard GROUP BY clip HAVING value >= $swap_db AND count(*) >= 25 * $swap_s""",
    ),
    Question(
        "offset", "sync.offset_ms", "offset_ms", "ms",
        "the sound is {value:+.0f} ms against the lips (late where positive)",
        "SELECT clip, NULL AS other, offset_ms AS value, NULL AS expected, t.start_s, t.end_s, y.annotator AS method "
        "FROM clip c JOIN face USING (source_id) JOIN sync y USING (track_id) JOIN tracks t USING (track_id) "
        "WHERE abs(offset_ms) >= $offset_ms AND confidence >= $offset_confidence AND own_voice >= $offset_own_voice "
        "AND evidence_s >= $offset_evidence_s",
    ),
    Question(
        "cut", "cuts.t_s", "", "s", "a new shot begins at {value:.2f} s",
        # A camera in the hand jerks, which the heuristic takes for a jump cut.
        "SELECT clip, NULL AS other, t_s AS value, NULL AS expected, t_s AS start_s, NULL AS end_s, "
        "annotator AS method FROM clip c JOIN cuts USING (source_id) "
        "WHERE t_s > 0 AND (annotator NOT LIKE 'jump-cut%' OR coalesce("
        "(SELECT median(camera_motion) FROM frames f WHERE f.source_id = c.source_id), 0) <= $still_camera)",
    ),
    Question(
        "two_people", "tracks", "other_face_s", "s", "a second person is seen for {value:.1f} s",
        """
        WITH shown AS (
          SELECT c.clip, f.track_id AS first, t.track_id, t.start_s, t.end_s, i.identity_id, j.identity_id AS first_id,
            least(t.end_s, m.end_s) - greatest(t.start_s, m.start_s) AS beside_s, t.annotator
          FROM clip c JOIN face f USING (source_id) JOIN tracks m ON m.track_id = f.track_id
          JOIN (SELECT tracks.*, 'tracks' AS annotator FROM tracks) t ON t.source_id = c.source_id
          LEFT JOIN track_identities i ON i.track_id = t.track_id
          LEFT JOIN track_identities j ON j.track_id = f.track_id
          WHERE t.track_id <> f.track_id AND t.visible_ratio >= 0.5 AND t.duration_s >= $other_face_s
            AND t.median_face_px >= $other_face_size * m.median_face_px)
        SELECT clip, NULL AS other, sum(end_s - start_s) AS value, NULL AS expected, min(start_s) AS start_s,
          max(end_s) AS end_s, 'tracks' AS method
        FROM shown WHERE beside_s >= $other_face_s OR identity_id <> first_id GROUP BY clip""",
    ),
    Question(
        "dubbed", "timeline.reason", "dubbed_s", "s",
        "lips speak for {value:.1f} s under a voice that is not theirs",
        "SELECT clip, NULL AS other, foreign_s AS value, NULL AS expected, foreign_from AS start_s, NULL AS end_s, "
        "(SELECT any_value(annotator) FROM sync) AS method "
        "FROM clip JOIN face USING (source_id) JOIN spoken USING (track_id) WHERE foreign_s >= $dubbed_s "
        "AND foreign_s >= $dubbed_ratio * (own_s + foreign_s + unvoiced_s)",
    ),
    Question(
        "dubbed", "speakers.embedding", "other_voice", "cosine",
        "the face is that of {expected}, the voice is not that of {other} and the other clips of that id",
        """
        WITH voice AS (
          SELECT c.clip, c.identity, c.source_id, arg_max(s.embedding, s.speech_s) AS embedding,
            any_value(s.annotator) AS method
          FROM clip c JOIN face USING (source_id) JOIN spoken p USING (track_id) JOIN seen v USING (track_id)
          JOIN home h ON h.identity = c.identity AND h.person = v.person
          JOIN speakers s ON s.source_id = c.source_id
          WHERE own_s + foreign_s >= $voice_s AND s.speech_s >= $voice_s GROUP BY c.clip, c.identity, c.source_id),
        few AS (
          SELECT * FROM voice QUALIFY row_number() OVER (PARTITION BY identity ORDER BY hash(clip), clip) <= 7)
        SELECT a.clip, arg_max(b.clip, list_cosine_similarity(a.embedding, b.embedding)) AS other,
          median(list_cosine_similarity(a.embedding, b.embedding)) AS value, a.identity AS expected, NULL AS start_s,
          NULL AS end_s, any_value(a.method) AS method
        FROM voice a JOIN few b ON a.identity = b.identity AND a.source_id <> b.source_id AND a.method = b.method
        GROUP BY a.clip, a.identity HAVING value < $other_voice AND count(*) >= 2""",
    ),
    Question(
        "duplicate", "face_frames", "same_moves", "correlation", "the same recording as {other}",
        """
        WITH one AS (SELECT * FROM recording WHERE alike >= $same_moves OR alike IS NULL AND told),
        two AS (
          SELECT a, b, alike, method FROM one UNION ALL SELECT b, a, alike, method FROM one
          UNION ALL SELECT DISTINCT source_id, source_id, 1.0, 'bytes' FROM clip)
        SELECT c.clip, min(o.clip) AS other, arg_min(alike, o.clip) AS value, NULL AS expected, NULL AS start_s,
          NULL AS end_s, arg_min(two.method, o.clip) AS method
        FROM clip c JOIN two ON two.a = c.source_id JOIN clip o ON o.source_id = two.b AND o.clip < c.clip
        GROUP BY c.clip""",
    ),
    Question(
        "wrong_identity", "face_embeddings.embedding", "other_face", "distance",
        "declared as {expected}, but the face is not that of {other} and the other clips of that id",
        f"{_WRONG_FACE} SELECT clip, own.other, own.distance AS value, own.identity AS expected, NULL AS start_s, "
        "NULL AS end_s, own.method FROM own LEFT JOIN rival USING (clip) "
        "WHERE own.distance > $other_face AND coalesce(rival.distance, 9) >= $same_face",
    ),
    Question(
        "wrong_identity", "face_embeddings.embedding", "same_face", "distance",
        "declared as {expected}, but the face is that of {other}, which is declared as somebody else",
        f"{_WRONG_FACE} SELECT clip, rival.other, rival.distance AS value, rival.identity AS expected, "
        "NULL AS start_s, NULL AS end_s, rival.method FROM rival LEFT JOIN own USING (clip) "
        "WHERE rival.distance < $same_face AND coalesce(own.distance, 9) >= $same_face",
    ),
    Question(
        "no_face", "tracks", "", "", "no face is seen, so lips, people and identity cannot be checked",
        f"SELECT clip, 0 AS value, {_NONE}, 'faces' AS method FROM clip "
        "WHERE source_id NOT IN (SELECT source_id FROM face)",
    ),
)  # fmt: skip

FINDINGS = ("unreadable", *dict.fromkeys(q.finding for q in QUESTIONS))
"""Every kind of finding, in the order in which they are shown."""
