"""Calls to external programs: SLURM's commands, git, stat, another Python.

Only this module starts a process to ask it something. So all of them get a chosen environment, a time limit and no
terminal; their output is read as bytes and never fails to decode; and a refusal (`Refused`) is distinguished from no
answer (`Unreachable`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60.0  # time limit for an answer

# Variables that SLURM's commands, its jobs and their launchers set and read. If inherited, they describe another job
# (the user's interactive allocation), or change what a command prints and which cluster it asks.
_OTHERS = re.compile(
    r"(SLURMD?|SBATCH|SALLOC|SRUN|SQUEUE|SACCT|SCANCEL|SINFO|SCONTROL|PMI2?|PMIX|OMPI_COMM_WORLD|TORCHELASTIC|SUBMITIT)_"
    r".*|((LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT))"
    r"|(CUDA|HIP|ROCR)_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK"
)
_THE_WAY_TO_SLURM = re.compile(r"SLURM_(CONF(_SERVER)?|JWT|SACK_.*)")
_NOBODY = re.compile(  # messages of SLURM's commands when they reach no controller
    r"unable to contact|timed out|connection (refused|reset|failure)|configuration source|unexpected message received"
    r"|zero bytes|standby mode|no route to host|communication|authentication|munge",
    re.IGNORECASE,
)
_FULL = re.compile(r"temporarily unable to accept job", re.IGNORECASE)  # sbatch tries for two minutes


class Unreachable(Exception):
    """A program does not answer, or reaches no server: nothing is known."""


class Absent(Unreachable):
    """The program is not on this machine, so nothing was asked."""


class Silent(Unreachable):
    """The program was killed at the time limit; `said` is what it had printed to stderr."""

    def __init__(self, words: str, said: str) -> None:
        super().__init__(words)
        self.said = said


class Refused(Exception):
    """A program answered with an error."""


@dataclass(frozen=True)
class Answer:
    """A program's exit code and output."""

    code: int
    printed: bytes
    error: str

    @property
    def text(self) -> str:
        """Its standard output as text."""
        return self.printed.decode(errors="replace")


def answer(
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = SECONDS,
) -> Answer:
    """Run a program and return its answer. Raises `Absent` if it cannot be started, and `Silent` at the time limit."""
    try:
        process = subprocess.Popen(
            words,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that a wrapper is killed with all its children
        )
    except FileNotFoundError:
        raise Absent(f"{words[0]} is not on this machine") from None
    except OSError as error:
        raise Absent(f"{words[0]} cannot be started: {error.strerror}") from None
    with process:
        try:
            printed, error_text = process.communicate(timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            said = (error.stderr or b"").decode(errors="replace")
            raise Silent(f"{words[0]} did not answer within {seconds:.0f} s", said) from None
    return Answer(process.returncode, printed, error_text.decode(errors="replace"))


def left_out(environment: Mapping[str, str]) -> list[str]:
    """The names of variables that neither SLURM's commands nor jobs inherit."""
    return sorted(name for name in environment if _OTHERS.fullmatch(name) and not _THE_WAY_TO_SLURM.fullmatch(name))


def chosen(environment: Mapping[str, str], kept: Iterable[str] = ()) -> dict[str, str]:
    """An environment for SLURM's commands and the jobs that inherit it, without `left_out` except those in `kept`."""
    out = set(left_out(environment)) - set(kept)
    return {name: value for name, value in environment.items() if name not in out}


def slurm(*words: str, cluster: str = "", kept: Iterable[str] = ()) -> str:
    """The output of one of SLURM's commands, about `cluster` if there are several, else about this machine's own.

    Raises `Unreachable`, or `Refused` with the command's message.
    """
    environment = chosen(os.environ, kept)
    if words[0] != "sbatch":  # its job would inherit these
        environment["SLURM_BITSTR_LEN"] = "0"  # otherwise SLURM cuts lists of array elements to 64 characters
        environment |= {"SLURM_CLUSTERS": cluster} if cluster else {}
    if words[0] == "sacct" and cluster:  # the only one that ignores the variable
        words += (f"--clusters={cluster}",)
    try:
        done = answer(words, environment, seconds=SECONDS)
    except Absent as error:
        raise Absent(f"{error}: is this a login node of the cluster?") from None
    except Silent as error:
        if _FULL.search(error.said):
            raise Refused(spoken(error.said)) from None
        raise
    if done.code:
        said = spoken(done.error) or spoken(done.text) or f"{words[0]} exited with {done.code}"
        raise Unreachable(said) if _NOBODY.search(said) else Refused(said)
    return done.text


def spoken(text: str) -> str:
    """The message of a SLURM command on one line, without the command's name before every sentence."""
    lines = (re.sub(r"^s[a-z]+: (error: |fatal: )?", "", line.strip()) for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


def git(*words: str, root: Path) -> Answer:
    """Ask git about the checkout at `root`, independently of the user's configuration and variables.

    Raises `Unreachable`, but not `Refused`, because a non-zero exit code need not be a refusal (`git diff`).
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Without optional locks git writes nothing, because a colleague's checkout may be read-only. Messages in English.
    own |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
    settings = ["core.quotepath=off", "color.ui=false", "diff.external=", "core.fsmonitor=false"]
    return answer(["git", *(word for each in settings for word in ("-c", each)), *words], own, root)


PATCH = (  # options of `git diff` that give the same patch for every user
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--diff-algorithm=myers"),
)
