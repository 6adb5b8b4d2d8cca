"""Planning: from declarations to runs, their states, what would start, and what it would cost."""
