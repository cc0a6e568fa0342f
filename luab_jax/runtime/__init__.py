"""Where a run executes and what it leaves on disk."""
