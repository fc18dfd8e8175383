"""Stage `packing`: the clip itself, `picture` and `audio`, with other `voices` taken out of the speak track."""
