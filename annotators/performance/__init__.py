"""What a face does over time: actions, head gestures, gaze, emotions, style of speaking, clothes."""
