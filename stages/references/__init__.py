"""Pictures of a person apart from the clip.

Stage `embedding` looks at each track's `portraits` (`portrait_text` cuts burnt-in words off); stage `references`
chooses (`choice`) and checks (`check`) those of every sample.
"""
