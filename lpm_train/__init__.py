"""Train a diffusion transformer on conversation shards and turn it into a streaming generator.

Depends on `schemas` alone: it reads packed shards and their manifest, never the pipeline. torch and NumPy are its core.
"""
