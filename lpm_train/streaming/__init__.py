"""Frames one block after another: rollouts, caches, and a stream in real time."""
