"""Declarations and records in, pages out: draws what was measured, measures nothing, imports no torch."""
