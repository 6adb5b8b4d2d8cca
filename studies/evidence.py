"""Enter the score of a test server: `python -m studies.evidence table10/t@0 --miou 82.1 --source "where and when"`.

Only their servers have the labels of the test splits of Pascal VOC and Cityscapes. A finished run on such a split keeps
an archive of its predictions; the score that the server returns for it becomes a record with its source.
Exit codes: 0 entered, 2 usage.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from segnext.config import digest
from segnext.door import Parser, command, say
from studies.declare.protocols import PROTOCOLS, protocol
from studies.plan.runs import PlannedRun, plan, select
from studies.records.schema import Plain
from studies.records.store import Store


@command("python -m studies.evidence")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.evidence", __doc__)
    parse.add_argument("selector", metavar="STUDY/ROW[@seed]", help="the run that was submitted")
    parse.add_argument("--miou", type=float, required=True, metavar="PERCENT", help="what the server returned")
    parse.add_argument("--source", required=True, help="the result's address, or who saw it and when")
    parse.add_argument("--protocol", default="paper", help=f"one of {', '.join(PROTOCOLS)} (default: paper)")
    options = parse.parse_args(arguments)
    from studies.facts import files  # scipy: not for --help

    if not 0 <= options.miou <= 100:
        raise ValueError(f"--miou {options.miou}: not a percentage")
    store = Store()
    planned = _submitted(options.selector, options.protocol, store)
    path = store.add(server_record(planned, options.miou, options.source, store))
    files.write(store)
    say(f"entered {options.miou} for {planned.label} in {path.name}")
    return 0


def _submitted(selector: str, name: str, store: Store) -> PlannedRun:
    chosen = protocol(name)
    runs = [
        planned for planned in plan(select([selector], chosen, None, None), chosen, None, store) if not planned.upstream
    ]
    submitted = [
        planned for planned in runs if (run := store.scored(planned.id)) is not None and run.predictions is not None
    ]
    if len(submitted) != 1:
        found = ", ".join(planned.label for planned in submitted) or "none"
        raise ValueError(
            f"{selector} under {name} must be one finished run with predictions for a test server; found: {found}"
        )
    return submitted[0]


def server_record(planned: PlannedRun, value: float, source: str, store: Store) -> Plain:
    """The record of a server's score for a finished run. Raises `ValueError` if the run already has another score."""
    (metric, *_) = planned.panel.accuracies
    before = store.server(planned.id, metric)
    if before is not None and (before.value, before.config.source) != (value, source):
        raise ValueError(f"{planned.label} has a score already, {before.value}, in {before.id}.json; delete that first")
    config = {"run": planned.run.id, "metric": metric, "source": source}
    return {
        "id": f"server-{digest(config)}",
        "kind": "server",
        "config": config,
        "value": value,
        "provenance": {
            "entered": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "predictions": store.records[planned.id].plain["predictions"],
        },
    }


if __name__ == "__main__":
    sys.exit(main())
