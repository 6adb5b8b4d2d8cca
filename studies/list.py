"""Every study: the paper's caption, its rows, and what it needs: `python -m studies.list [STUDY...] [--json]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from segnext.door import Column, Parser, command, console, print_json, say, show_table
from studies.declare.protocols import PROTOCOLS
from studies.declare.study import Row, Study
from studies.tables import studies, study

STUDIES = (
    Column("study"),
    Column("in the paper", folds=True),
    Column("rows", right=True),
    Column("datasets", folds=True),
)
OF_PROTOCOLS = (Column("--protocol"), Column("needs", folds=True), Column("what it is for", folds=True))
ROWS = (Column("row"), Column("as printed", folds=True))


@command("python -m studies.list")
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the studies and every protocol."""
    parser = Parser.of("python -m studies.list", __doc__)
    parser.add_argument("study", nargs="*", metavar="STUDY", help="a study, such as table7 (default: every study)")
    parser.add_argument("--json", action="store_true", help="as JSON, with what the paper printed")
    options = parser.parse_args(arguments)
    shown = [study(name) for name in options.study] or list(studies().values())
    if options.json:
        print_json([_as_json(declared) for declared in shown])
        return 0
    if options.study:
        _in_full(shown)
        return 0
    listed = [[one.slug, one.number, str(len(one.trained)), _datasets(one)] for one in shown]
    show_table(STUDIES, listed)
    say("python -m studies.list STUDY: its caption and its rows\n")
    show_table(OF_PROTOCOLS, [[one.name, one.needs, one.purpose] for one in PROTOCOLS.values()])
    return 0


def _datasets(declared: Study) -> str:
    return ", ".join(panel.title for panel in declared.panels) or "generated images"


def _in_full(chosen: Sequence[Study]) -> None:
    """Captions and rows."""
    out = console()
    for place, declared in enumerate(chosen):
        if place:
            out.print()
        out.print(f"{declared.slug}: {declared.number}, on {_datasets(declared)}")
        out.print(declared.caption)
        show_table(ROWS, [[f"{declared.slug}/{row.slug}", row.label] for row in declared.trained])


def _as_json(declared: Study) -> dict[str, Any]:
    rows = [
        {
            "row": row.slug,
            "label": row.label,
            "trained": isinstance(row, Row),
            "printed": [
                {"dataset": dataset, "metric": metric, "value": value}
                for (dataset, metric), value in row.printed.items()
            ],
        }
        for row in declared.rows
    ]
    facts = {"study": declared.slug, "number": declared.number, "caption": declared.caption}
    return {**facts, "datasets": [panel.dataset for panel in declared.panels], "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
