"""One file a stage: each turns tables, and one source's media, into tables through annotators."""
