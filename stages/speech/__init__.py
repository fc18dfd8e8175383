"""What is heard, and whose lips follow it.

Stage `speech` finds voices and words; stage `active_speaker` scores each face (`crop_blocks` brings its mouth,
`lip_series` the shape of its lips). Stage `channels` measures the channels of a sound apart.
"""
