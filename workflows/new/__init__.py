"""What `lpm new` writes: a stage and a back-end of a user's own, each with its test. They run as they stand here."""
