"""What each file is, and which files belong together.

`probe` measures a file without decoding it; over the whole dataset `duplicates` finds the same recording under other
bytes, and `sessions` recordings of one conversation (`session_sound` hears them, `session_pairs` aligns two,
`session_clock` puts all on one clock).
"""
