"""Show how two runs differ: `python -m studies.diff A B`, each STUDY/ROW[@seed] or an id.

Compares configurations and, if both runs have records, code, data, versions and machine.
Exit codes: 0 equal, 1 different, 2 usage.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from segnext.config import canonical
from segnext.door import Column, Parser, command, console, print_json, show_table
from studies.plan.declared import add_declared, declared, record_of
from studies.plan.runs import PlannedRun
from studies.records.store import Store
from studies.show import flat

# Fields of a record's provenance, by subject.
PARTS = {
    "code": ("code", "commit", "dirty", "diff"),
    "data": ("data", "initial"),
    "versions": ("python", "packages"),
    "how it ran": ("processor", "device", "driver", "processes", "threads", "precision", "compiled", "command"),
}


@command("python -m studies.diff")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.diff", __doc__)
    parse.add_argument("runs", nargs=2, metavar="RUN", help="STUDY/ROW[@seed], or an id")
    add_declared(parse)
    parse.add_argument("--json", action="store_true", help="as JSON")
    options = parse.parse_args(arguments)
    store = Store()
    runs = [declared(text, options, store) for text in options.runs]
    one, other = (_facts(planned, store) for planned in runs)
    found = {part: between(one.get(part), other.get(part)) for part in ("configuration", *PARTS)}
    if options.json:
        print_json(found)
    else:
        _show(runs, found, [bool(one.get("code")), bool(other.get("code"))])
    return 1 if any(found.values()) else 0


def between(one: Any, other: Any) -> dict[str, tuple[str | None, str | None]]:
    """The fields in which two nested values differ, with both values; None if one has no such field."""
    mine, theirs = dict(flat(one or {})), dict(flat(other or {}))
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return {key: (mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)}


def _facts(planned: PlannedRun, store: Store) -> dict[str, Mapping[str, Any]]:
    record = record_of(planned, store)
    facts = {"configuration": canonical(planned.wanted)}
    if record is not None:
        origin = record.plain["provenance"]
        facts |= {part: {key: origin[key] for key in keys if key in origin} for part, keys in PARTS.items()}
    return facts


def _show(runs: Sequence[PlannedRun], found: Mapping[str, Mapping[str, Any]], recorded: Sequence[bool]) -> None:
    out = console()
    names = [f"{planned.label} ({planned.id})" for planned in runs]
    for name, there in zip(names, recorded, strict=True):
        if not there:
            out.print(f"{name} has no record: only configurations are compared")
    for part, fields in found.items():
        if part != "configuration" and not all(recorded):
            continue
        if not fields:
            out.print(f"{part}: equal")
            continue
        rows = [[key, *("-" if value is None else value for value in values)] for key, values in fields.items()]
        show_table((Column(part), *(Column(name, folds=True) for name in names)), rows)


if __name__ == "__main__":
    sys.exit(main())
