"""The review: a small web application over a dataset, to sample units, watch them from their sources, and judge them.

`draw` lists and samples units by SQL, `watch` tells all of one, with `lanes` of what was measured over its time,
`media` serves stretches of sources and packed clips, `guard` says who may ask, `app` answers requests, and
`page/` is what the browser runs. Verdicts go to `curation.audit`.
"""
