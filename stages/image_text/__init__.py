"""Vectors that pictures and words share: stage `clip_vectors` for clips, stage `portrait_vectors` for references.

Both stay empty until a model is chosen (`shared.image_text`). What they are for is `curation.search`.
"""
