"""Stage `tracks`: a person's faces over a whole shot.

In order: `join` links what windows cut, `overlay` says what was laid over the picture, `measure` sums a track up.
"""
