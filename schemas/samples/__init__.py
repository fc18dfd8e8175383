"""A sample of a packed dataset: its members, its captions and their words, the manifest's row of it."""
