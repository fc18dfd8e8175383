"""What runs leave of themselves under `runs/`: the log of their `steps`, and how far the `newest` one came."""
