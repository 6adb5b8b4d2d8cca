"""Declarations and records in, pages out: draws what was measured, measures nothing, imports no torch."""

from segnext.door import watch_over_imports

watch_over_imports()
