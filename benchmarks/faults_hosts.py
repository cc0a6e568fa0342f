"""To come."""
CASES = {}
