"""What looks at data or at a model, or prepares them: the commands around training. The trainer needs none of it."""
