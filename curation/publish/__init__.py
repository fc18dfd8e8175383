"""What goes with a published dataset: its card, and Croissant metadata; and the recipe that stands for its media."""
