"""The transformer, ours and in Wan's form, public weights for it, and how one sample is split over ranks."""
