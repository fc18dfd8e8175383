"""Model families behind small protocols; one file a family. Knows no stage and no store."""

import os

# oneDNN, under PyTorch, keeps a compiled primitive with its buffers for each shape it has met, 1024 by default: with
# clips of every length that is more than a gigabyte. Read at its first use; measured no slower at 64.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
