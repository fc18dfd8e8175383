"""Processes for stages: of this Python, or of another with a library that this one does not, or may not, have.

In order: `find` says where a Python is and whether it fits, `launch` starts our own packages there, `worker` is this
side of such a process, `limits` what it may use, and `serve` the other side.
"""
