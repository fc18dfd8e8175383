"""The same steps on Ray: lanes, resources, progress."""

import os

# Read when ray is imported: else a thread that still asks Ray for something after a run was stopped starts another one.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
