"""The manifest of a great many samples as a table: columns in few bytes each, held once on a machine."""
