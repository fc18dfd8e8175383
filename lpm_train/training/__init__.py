"""Stages, the loop around them, ranks, optimizers and checkpoints."""
