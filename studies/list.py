"""Every study: the paper's caption, its rows, and what it needs: `python -m studies.list`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from studies.protocols import PROTOCOLS
from studies.study import studies


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every study and every protocol."""
    argparse.ArgumentParser(prog="python -m studies.list", description=__doc__).parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for study in studies().values():
        console.print(f"[bold]{study.slug}[/]  {study.number} of the paper, on {study.dataset}")
        console.print(Padding(study.caption, (0, 2)))
        rows = Table(box=None, padding=(0, 2), show_header=False)
        for row in study.trained:
            rows.add_row(f"{study.slug}/{row.slug}", row.name)
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
