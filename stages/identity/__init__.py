"""Stage `identity`: who is who across the whole dataset, and which split each person belongs to.

In order: `faces` are vectors of tracks, `clusters` (by `clustering`, with `voices` as second evidence) are people,
`registry` and `anchors` keep their names, `decisions` of humans are laid over them, `splits` deals them out; `people`
is all of it.
"""
