"""Pictures and words as vectors of one space, and scores from such vectors."""
