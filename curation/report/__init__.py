"""What a dataset holds and why, for people to read: `lpm status`, `lpm explain`, and the report.

The report is one self-contained HTML page: `content` gathers what it shows, `pictures` and `svg` draw, `page` writes.
"""
