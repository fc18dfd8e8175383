"""Parts that are chosen by name: encoders and autoencoders, a fused kernel, an optional stage, Ray as a launcher.

Each module is imported where its name is asked for, so that what it needs may be absent.
"""
