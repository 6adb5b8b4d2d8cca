"""Verdicts: what differences say, computed once."""
