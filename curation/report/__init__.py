"""What a dataset holds and why, for people to read: `lpm status`, `lpm explain`, and the report.

The report is one HTML page with its pictures inside, and what it plays in files beside it: `content` and `cards` gather
what it shows, `frames` and `seen` what lies over the sources' pictures, `pictures` and `svg` draw, `clips` makes the
files, `page` writes.
"""
