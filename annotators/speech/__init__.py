"""Voices: voice activity, who speaks when, embeddings of voices."""
