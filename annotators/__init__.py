"""Model families behind small protocols; one file a family. Knows no stage and no store."""
