"""`lpm export conversations`: whole recordings as both sounds of each person, without pictures."""
