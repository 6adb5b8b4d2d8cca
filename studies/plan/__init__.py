"""From declarations to runs: what exists, what is under way, what would start and what it would take."""
