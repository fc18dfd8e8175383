"""Proof, not trainer: a puppet whose every factor is known, its shards and metrics, and `make toy`, which trains on it.

Nothing outside of this package needs it but `principal:FILE`, the closed-form codec of the toy.
"""
