"""Cancel started runs: `python -m studies.cancel STUDY[/ROW][@seed] ... [--yes]`. Their saved states stay.

Exit codes: 0 fine, 1 some could not be cancelled or a file is damaged, 2 usage, 4 scheduler unreachable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import msgspec

from segnext.door import Parser, command, say
from studies.launch.submit import user
from studies.plan.runs import PlannedRun, settled
from studies.plan.started import add_selectors, started_runs
from studies.plan.state import submitted
from studies.records.store import Store, runs_folder
from studies.records.typed import tell
from studies.records.workspace import Workspace
from studies.slurm import scheduler

ASK_ABOVE = 10


@command("python -m studies.cancel")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser.of("python -m studies.cancel", __doc__)
    add_selectors(parse)
    parse.add_argument("--yes", action="store_true", help=f"do not ask before more than {ASK_ABOVE} are cancelled")
    options = parse.parse_args(arguments)
    if not options.selectors:
        parse.exit(2, f"{parse.prog}: name the runs to cancel, or say: all\n")
    runs, queue = settled(started_runs(options, store := Store()))
    going = [planned for planned in runs if planned.state in ("running", "queued")]
    if queue.silence and not going:
        parse.exit(4, f"{parse.prog}: the scheduler does not answer: {queue.silence}\n")
    if len(going) > ASK_ABOVE and not options.yes:
        if not sys.stdin.isatty():
            parse.exit(2, f"{parse.prog}: {len(going)} runs would be cancelled; confirm with --yes\n")
        say(f"cancel {len(going)} runs? [y/N] ", end="")
        if sys.stdin.readline().strip().lower() != "y":
            return 0
    jobs: dict[tuple[str, str], list[PlannedRun]] = {}
    for planned in filter(_submitted, going):
        jobs.setdefault((planned.stands.job, planned.stands.token), []).append(planned)
    beside = _beside(jobs)
    jobs, parts = {job: c for job, c in jobs.items() if job not in beside}, [c for job in beside for c in jobs[job]]
    try:
        if jobs:
            scheduler.cancel(jobs)
    except scheduler.Unreachable as error:
        parse.exit(4, f"{parse.prog}: the scheduler does not answer: {error}\n")
    except scheduler.Refused as error:
        parse.exit(1, f"{parse.prog}: {error}\n")
    cancelled = [planned for runs in jobs.values() for planned in runs]
    for planned in (*cancelled, *parts):
        _mark(planned)
    for planned in parts:
        say(f"{planned.label} shares its job with others, which go on: it leaves within seconds")
    asked = [planned for planned in going if planned not in (*cancelled, *parts) and _ask(planned)]
    say(f"{len(jobs)} jobs cancelled, {len(asked) + len(parts)} processes asked to save and leave")
    if queue.silence:  # of another cluster
        parse.exit(4, f"{parse.prog}: the scheduler does not answer: {queue.silence}: none of its runs was cancelled\n")
    return max(tell(store.damage), int(len(cancelled) + len(parts) + len(asked) != len(going)))


def _beside(jobs: Mapping[tuple[str, str], Sequence[PlannedRun]]) -> set[tuple[str, str]]:
    """Those of these jobs that also have runs which nobody named: only a part of such a job is cancelled."""
    named = {planned.id for runs in jobs.values() for planned in runs}
    if all((own := submitted(name)) is None or own.sharing == 1 for name in named):
        return set()
    found = set()
    for path in runs_folder().glob("*/submission.json"):
        other = submitted(path.parent.name)
        if other and other.job and not other.cancelled and path.parent.name not in named:
            found.add((other.job, other.token))
    return found & jobs.keys()


def _submitted(planned: PlannedRun) -> bool:
    """Whether we submitted the run's job, as opposed to a job in which a user called `studies.run`."""
    submission = submitted(planned.id)
    return bool(planned.stands.job and submission and submission.job in (None, planned.stands.job))


def _mark(planned: PlannedRun) -> None:
    """Note the cancellation with the run: accounting does not record an array element cancelled in the queue."""
    submission = Workspace(planned.id).submission
    if (content := submitted(planned.id)) is not None and content.token == planned.stands.token:
        submission.replace(msgspec.structs.replace(content, cancelled=user()))


def _ask(planned: PlannedRun) -> bool:
    owner = Workspace(planned.id).owner()
    if owner is None or not owner.process.here:
        where = (
            f"runs on {planned.stands.node}: stop it there" if planned.stands.node else f"is {planned.stands.detail}"
        )
        say(f"{planned.label} {where}", error=True)
        return False
    try:
        owner.process.ask_to_leave()
    except OSError as error:  # another user's process, or one that has ended
        say(f"{planned.label}, process {owner.process.pid}: {error.strerror}", error=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
