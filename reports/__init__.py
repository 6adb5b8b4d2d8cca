"""Declarations and records in, pages out: draws what was measured, measures nothing, imports no torch."""

import studies  # noqa: F401  (before all else: Ctrl-C while a command is imported)
