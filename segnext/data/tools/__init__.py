"""Behind `python -m segnext.data`: check, show, convert, probe."""
