"""How a run has ended: what its own process could not note, and who is told."""

from __future__ import annotations

import json
import os
import signal

from studies.records.external import Unreachable, answer
from studies.records.typed import Damaged
from studies.records.workspace import Workspace

OUTSIDE = 75  # what a worker exits with that cannot send its job back to the queue itself (sysexits.h: try again)
NOTIFY_SECONDS = 30.0  # that the profile's `notify` may take


def note_killed(workspace: Workspace, number: int, starved: bool) -> tuple[str, str]:
    """Note that a signal ended a run's process, and why, as far as that can be known; the cause and its words.

    `starved`: the kernel has ended processes for want of memory meanwhile.
    """
    name = signal.Signals(number).name
    if number == signal.SIGKILL and starved:
        cause = "out_of_memory"
        message = f"killed by {name}: this machine was out of memory; fewer runs at a time (--max-parallel, --workers)"
    else:
        cause, message = "killed", f"killed by {name}{', by hand or for want of memory' * (number == signal.SIGKILL)}"
    last = workspace.last_attempt()
    if last is not None and last.finished is None:
        workspace.amend_attempt(cause, message)
    return cause, message


def notify(workspace: Workspace, cause: str) -> None:
    """Call the command that the job's profile names, with the run's id, its row and the cause.

    Whatever becomes of the command harms nothing: a word in the log.
    """
    words = json.loads(os.environ.get("SEGNEXT_NOTIFY") or "[]")
    if not words:
        return
    try:
        spec = workspace.spec()
        row = f"{spec.study}/{spec.row}@{spec.seed}" if spec else ""
        done = answer([*words, workspace.run_id, row, cause], dict(os.environ), seconds=NOTIFY_SECONDS)
    except (Unreachable, Damaged, OSError) as error:
        print(f"notify: {error}", flush=True)
        return
    if done.code:
        print(f"notify: {words[0]} exited with {done.code}: {done.error.strip()[:300]}", flush=True)
