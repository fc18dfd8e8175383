"""What a picture shows apart from people: quality, motion, shots, and what was laid over it."""
