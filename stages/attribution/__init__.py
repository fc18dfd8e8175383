"""Stage `attribution`: whose voice is it.

In order: `lip_scores` by face and time, `split` of voices that are two people's, `sync` of lips and sound as evidence,
`assign` of voices to faces, and how they `talk`: `turn_taking`, backchannels.
"""
