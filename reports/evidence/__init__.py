"""What the records say of a study, gathered, pooled and judged."""
