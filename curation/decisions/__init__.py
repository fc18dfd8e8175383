"""What is kept and why: rules, decisions, ledger, and how the numbers add up."""
