"""What YAML says: workflows, policies, and the parts that they choose."""
