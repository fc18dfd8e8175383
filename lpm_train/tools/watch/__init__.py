"""Training that can be seen: held-out clips generated at each evaluation, and one page a run that shows them."""
