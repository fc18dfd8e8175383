"""Named pipelines and policies as YAML, and the `lpm` command line."""
