"""Voices and words: voice activity, who speaks when, embeddings of voices, transcription."""
