"""Every study: the paper's caption, its rows, and what it needs: `python -m studies.list [STUDY...] [--json]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from segnext.door import Parser, command, console, print_json
from studies.declare.protocols import PROTOCOLS
from studies.declare.study import Row, Study
from studies.tables import studies, study


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
    out = console(width=120, soft_wrap=False)
    if options.study:
        _in_full(out, shown)
        return 0
    listed = Table(box=None, padding=(0, 2), show_header=False)
    for declared in shown:
        datasets = ", ".join(panel.title for panel in declared.panels) or "generated images"
        listed.add_row(declared.slug, declared.number, f"{len(declared.trained)} rows", datasets)
    out.print(listed)
    out.print("python -m studies.list STUDY: its caption and its rows\n")
    protocols = Table(box=None, padding=(0, 2), title="protocols", title_justify="left", title_style="bold")
    for heading in ("--protocol", "needs", "what it is for"):
        protocols.add_column(heading)
    for protocol in PROTOCOLS.values():
        protocols.add_row(protocol.name, protocol.needs, protocol.purpose)
    out.print(protocols)
    return 0


def _in_full(out: Console, chosen: Sequence[Study]) -> None:
    """Captions and rows."""
    for declared in chosen:
        datasets = ", ".join(panel.title for panel in declared.panels) or "generated images"
        out.print(declared.slug, style="bold", end="")
        out.print(f"  {declared.number}, on {datasets}")
        out.print(Padding(declared.caption, (0, 2)))
        rows = Table(box=None, padding=(0, 2), show_header=False)
        for row in declared.trained:
            rows.add_row(f"{declared.slug}/{row.slug}", row.label)
        out.print(rows)
        out.print()


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
