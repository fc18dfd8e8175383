"""What a run will cost before it is started: `survey` looks at the inputs, `rates` says what a second of video cost
elsewhere, `estimate` puts the two together.
"""
