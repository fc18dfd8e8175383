"""Media: probing, frames, sound and encoding, all on one clock per source.

Zero of a source's clock is the presentation time of its first video frame. Everything here reads files that may be
broken or hostile, and fails only with `MediaError`.
"""
