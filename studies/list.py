"""Every study: the paper's caption, its rows, and what it needs: `python -m studies.list [STUDY...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from studies.protocols import PROTOCOLS
from studies.study import studies, study


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the studies and every protocol."""
    parser = argparse.ArgumentParser(prog="python -m studies.list", description=__doc__)
    parser.add_argument("study", nargs="*", metavar="STUDY", help="a study, such as table7 (default: every study)")
    chosen = parser.parse_args(arguments).study
    try:
        shown = [study(name) for name in chosen] or list(studies().values())
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for declared in shown:
        datasets = ", ".join(panel.title for panel in declared.panels)
        console.print(f"[bold]{declared.slug}[/]  {declared.number}, on {datasets}")
        console.print(Padding(declared.caption, (0, 2)))
        rows = Table(box=None, padding=(0, 2), show_header=False)
        for row in declared.trained:
            rows.add_row(f"{declared.slug}/{row.slug}", row.label)
        console.print(rows)
        console.print()
    protocols = Table(box=None, padding=(0, 2), title="protocols", title_justify="left", title_style="bold")
    for heading in ("--protocol", "needs", "what it is for"):
        protocols.add_column(heading)
    for protocol in PROTOCOLS.values():
        protocols.add_row(protocol.name, protocol.needs, protocol.purpose)
    console.print(protocols)
    return 0


if __name__ == "__main__":
    sys.exit(main())
