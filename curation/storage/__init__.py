"""Tables, commits and files of a dataset, on a disk or in a bucket."""
