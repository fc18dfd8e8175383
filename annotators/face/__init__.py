"""Find a face, align it, describe it, and tell whose it is."""
