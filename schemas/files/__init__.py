"""Names of files: places they lie at, formats of video and of models."""
