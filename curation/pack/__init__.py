"""Kept clips into shards with a manifest."""
