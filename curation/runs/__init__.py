"""What runs leave of themselves under `runs/`: their `log`, that of their `steps`, how far the `newest` one came."""
