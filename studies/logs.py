"""Show what a run printed, after SLURM's own messages: `python -m studies.logs STUDY/ROW@seed [-f] [-n LINES]`.

Exit codes: 0 fine, 1 a file is damaged, 2 usage, or the selector fits no run or several.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from segnext.door import Parser, command, say
from studies.plan.options import positive, shown
from studies.plan.started import add_selectors, one, started_runs
from studies.plan.state import printed, submitted
from studies.records.store import Store, runs_folder
from studies.records.typed import Damaged, tell
from studies.records.working_state import Submission
from studies.records.workspace import Workspace


@command("python -m studies.logs")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.logs", __doc__)
    add_selectors(parse)
    parse.add_argument("-n", type=positive, default=100, metavar="LINES", help="show the last LINES (default: 100)")
    parse.add_argument("-f", "--follow", action="store_true", help="follow the log until Ctrl-C")
    options = parse.parse_args(arguments)
    store = Store()
    runs = started_runs(options, store)
    if not runs and store.damage:
        return tell(store.damage)
    planned = one([planned for planned in runs if not planned.upstream or len(options.selectors) == 0])
    submission = submitted(planned.id)
    told = False
    for path in printed(submission) if submission else []:
        if said := path.read_text(encoding="utf-8", errors="replace").strip():
            told = say(f"--- {path.name}\n{said}")
    log, position, heard = Workspace(planned.id).log, 0, True
    try:
        content = Workspace(planned.id).printed()
    except Damaged as damaged:
        store.damage.append(damaged)
        return tell(store.damage)
    if content is None and not told:
        say(_silent(submission))
    if content is not None:
        position = len(content)
        heard = say("\n".join(["--- log.txt", *content.decode(errors="replace").splitlines()[-options.n :]]))
    try:
        while options.follow and heard:
            time.sleep(0.5)
            if log.exists() and log.stat().st_size > position:
                with open(log, encoding="utf-8", errors="replace") as file:
                    file.seek(position)
                    heard = say(file.read(), end="")
                    position = file.tell()
    except KeyboardInterrupt:
        pass
    return tell(store.damage)


def _silent(submission: Submission | None) -> str:
    """Why there is nothing to show, and where to look."""
    if submission is None or not submission.job:
        return "it has printed nothing yet"
    folder = shown(runs_folder() / "slurm" / submission.token)
    return (
        f"job {submission.job} has printed nothing: it has not begun, or its node could not write to {folder} "
        f"(python -m studies.doctor, scontrol show job {submission.job}; a node's own log: slurmd)"
    )


if __name__ == "__main__":
    sys.exit(main())
