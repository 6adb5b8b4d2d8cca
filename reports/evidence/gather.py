"""What the records say about a study: `studies.facts` gathers it, for the CSVs and for the sections alike."""

from studies.facts.gather import (
    UNITS,
    Common,
    Evidence,
    Expense,
    Seed,
    Tested,
    Timings,
    Variant,
    common,
    gather,
    heat_inside,
    marks,
)

__all__ = [
    "UNITS",
    "Common",
    "Evidence",
    "Expense",
    "Seed",
    "Tested",
    "Timings",
    "Variant",
    "common",
    "gather",
    "heat_inside",
    "marks",
]
