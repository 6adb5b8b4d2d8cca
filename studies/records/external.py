"""Every program of others that the harness asks: SLURM's commands, git, stat, another Python.

Here alone a process is started to be asked something, so that all of them get an environment that was chosen, a time
limit, and no terminal; what they print is read as bytes and never fails to decode; and a program that answers no
(`Refused`) is told from one that does not answer (`Unreachable`).
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

SECONDS = 60.0  # that a program may take to answer

# What SLURM's commands, its jobs and their launchers read and leave behind. Inherited, these describe another job (the
# allocation that somebody types in) or change what a command prints and to whom it talks.
_OTHERS = re.compile(
    r"(SLURMD?|SBATCH|SALLOC|SRUN|SQUEUE|SACCT|SCANCEL|SINFO|SCONTROL|PMI2?|PMIX|OMPI_COMM_WORLD|TORCHELASTIC|SUBMITIT)_"
    r".*|((LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT))"
    r"|(CUDA|HIP|ROCR)_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK"
)
_THE_WAY_TO_SLURM = re.compile(r"SLURM_(CONF(_SERVER)?|JWT|SACK_.*)")
_NOBODY = re.compile(  # what SLURM's commands say when no controller took the question
    r"unable to contact|timed out|connection (refused|reset|failure)|configuration source|unexpected message received"
    r"|zero bytes|standby mode|no route to host|communication|authentication|munge",
    re.IGNORECASE,
)
_FULL = re.compile(r"temporarily unable to accept job", re.IGNORECASE)  # sbatch tries for two minutes


class Unreachable(Exception):
    """A program does not answer, or nobody answers it: nothing is known."""


class Absent(Unreachable):
    """The program is not on this machine: nothing was asked."""


class Silent(Unreachable):
    """The program was ended after its time; `said` is what it had printed to stderr."""

    def __init__(self, words: str, said: str) -> None:
        super().__init__(words)
        self.said = said


class Refused(Exception):
    """A program answered, and the answer is no."""


@dataclass(frozen=True)
class Answer:
    """What a program left: its exit code, and what it printed."""

    code: int
    printed: bytes
    error: str

    @property
    def text(self) -> str:
        """What it printed to stdout."""
        return self.printed.decode(errors="replace")


def answer(
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = SECONDS,
) -> Answer:
    """Ask a program. Raises `Absent` where it cannot be started, and `Silent` after the time limit."""
    try:
        process = subprocess.Popen(
            words,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a wrapper is ended with all that it has started
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
    """The names of the variables that neither SLURM's commands nor jobs get."""
    return sorted(name for name in environment if _OTHERS.fullmatch(name) and not _THE_WAY_TO_SLURM.fullmatch(name))


def chosen(environment: Mapping[str, str], kept: Iterable[str] = ()) -> dict[str, str]:
    """An environment for SLURM's commands, and for the jobs that inherit it; `kept` is left in although it counts."""
    out = set(left_out(environment)) - set(kept)
    return {name: value for name, value in environment.items() if name not in out}


def slurm(*words: str, cluster: str = "", kept: Iterable[str] = ()) -> str:
    """What one of SLURM's commands prints, asked about `cluster` of several, or about this machine's own.

    Raises `Unreachable`, or `Refused` with its own words.
    """
    environment = chosen(os.environ, kept)
    if words[0] != "sbatch":  # a job would inherit them
        environment["SLURM_BITSTR_LEN"] = "0"  # SLURM cuts what names many elements to 64 characters
        environment |= {"SLURM_CLUSTERS": cluster} if cluster else {}
    if words[0] == "sacct" and cluster:  # it alone does not read the variable
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
    """What a command of SLURM prints, on one line and without its own name before every sentence."""
    lines = (re.sub(r"^s[a-z]+: (error: |fatal: )?", "", line.strip()) for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


def git(*words: str, root: Path) -> Answer:
    """Ask git about the checkout at `root`, whatever somebody's own configuration and variables make of its answers.

    Raises `Unreachable`. A refusal is an answer with an exit code: `git diff` has one that is none.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Nothing is written: a colleague's checkout may be read-only. And `git` says in English what is wrong.
    own |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
    settings = ["core.quotepath=off", "color.ui=false", "diff.external=", "core.fsmonitor=false"]
    return answer(["git", *(word for each in settings for word in ("-c", each)), *words], own, root)


PATCH = (  # for `git diff`: what it prints is a patch, the same for everybody
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--diff-algorithm=myers"),
)
