"""Stage `clip_plan`: how each candidate clip will be cropped, and what its picture and sound will hold.

In order: `source` reads what the plans of one file need, `crop` is one candidate's picture, `bounds` and `framing` say
where its crop may lie and how it should look, `crop_search` finds it, `crop_path` moves it, `content` says what it
shows; `fit` answers the same for a stretch of time, while runs are cut.
"""
