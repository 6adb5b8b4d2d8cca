"""How everything looks: one colour and one marker per row everywhere, one glyph per verdict, one figure style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Paul Tol's "vibrant" scheme: safe for colour-blind readers, and at least 2:1 on white and on the dark page.
COLOURS = ("#0077bb", "#ee7733", "#009988", "#ee3377", "#33bbee", "#cc3311")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # 6 and 7 have no common divisor: 42 rows before a pair repeats

INK = "#1f2328"  # becomes `currentColor` inside the page, so that figures follow the light and the dark theme
PAPER = "#ffffff"  # becomes transparent inside the page

# Paul Tol's "muted" scheme and its pale one: classes of a segmentation, from the first on.
CLASSES = (
    "#dddddd",
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#bbccee",
    "#cceeff",
    "#ccddaa",
    "#eeeebb",
    "#ffcccc",
    "#777777",
)

GLYPHS = {
    "reproduced": "✓",
    "supported": "✓",
    "agrees": "✓",
    "contradicted": "✗",
    "differs": "✗",
    "unexplained": "✗",
    "above": "▲",
    "below": "▼",
    "inconclusive": "≈",
    "no difference": "=",
    "not resolved": "≈",
    "few seeds": "○",
    "imported": "◇",
    "pending": "·",
}
"""A verdict is a word, a glyph and a colour (write/templates/page.css), so that none of the three has to be seen."""

OTHERS_GLYPHS = dict.fromkeys(("same", "smaller", "larger", "opposite", "unclear", "mixed", "nobody"), "◆")
"""The words on what others published are not those on our runs: one glyph and one colour of their own."""

ELSEWHERE_GLYPHS = {"here too": "+", "opposite here": "−", "no difference here": "=", "not resolved here": "≈"}
"""Words of small and generated data: no tick and no cross, and colours of their own."""

SIGNS = GLYPHS | OTHERS_GLYPHS | ELSEWHERE_GLYPHS

FIGURE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": PAPER,
    "svg.hashsalt": "segnext",  # the same bytes for the same figure
    "pdf.fonttype": 42,  # TrueType, embedded; type 3 is refused by many publishers
}
"""matplotlib's settings (its own stub types the keys as one long literal)."""


def row_styles(rows: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The (colour, marker) of every row of a study, by its place in the paper's table."""
    return {row: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, row in enumerate(rows)}
