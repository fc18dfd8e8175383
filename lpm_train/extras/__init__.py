"""What training can do without: public encoders and autoencoders, Ray as a launcher, and a look at a dataset's health.

Each module is imported where its name is asked for, so that what it needs may be absent.
"""
