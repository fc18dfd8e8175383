"""Sound apart from words: events, quality, and signatures that align recordings."""
