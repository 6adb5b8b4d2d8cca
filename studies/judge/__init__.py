"""Judging: every verdict, p value and interval is computed here, once, for CSVs, commands and reports."""
