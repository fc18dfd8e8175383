"""Stage `pairing`: who speaks, who listens, who is idle, over time; and the candidate clips that follow.

In order: what is heard (`sound_grid`), what `lips` and `faces` do, `rivals` and the `contest` for one voice, `states`,
human `labels` over them, `segments`, cut `clean`, linked to each other's (`exchange`) and named (`category`).
"""
