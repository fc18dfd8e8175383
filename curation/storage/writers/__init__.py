"""Who writes a dataset, and that nobody else does: locks, leases, what is told before each write."""
