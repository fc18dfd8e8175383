"""What people decide: labels of timelines, and who is who."""
