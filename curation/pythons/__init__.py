"""Another Python for a stage: an environment with a library that this one does not have, or may not have.

In order: `find` says where it is and whether it fits, `launch` starts our own packages there, `worker` is this side of
such a process and `serve` the other.
"""
