"""Where and with what runs execute on a SLURM cluster: a TOML file under slurm/profiles/, and what overrides it.

Nothing in a profile changes a result beyond rounding: the global batch stays the recipe's, however many processes share
it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import shlex
import sys
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segnext.config import COMPILERS, PRECISIONS, compiler
from studies.records.store import REPOSITORY

PROFILES = REPOSITORY / "slurm" / "profiles"
STAGES = ("pretrain", "evaluate")  # may have resources of their own: ImageNet, and tests of finished weights

# What [options] may not say: what a profile has a setting for, and what the study needs to know or to find its jobs.
_SETTINGS = {
    **{name: name for name in ("partition", "account", "qos", "constraint", "time", "nodes")},
    **dict.fromkeys(("ntasks", "ntasks-per-node"), "processes"),
    **{"mem": "memory", "gpus-per-node": "gpus", "cpus-per-task": "cpus", "signal": "warning"},  # noqa: PIE800
}
_OURS = (
    *("array", "job-name", "output", "error", "open-mode", "chdir", "dependency", "requeue", "no-requeue", "parsable"),
    *("wrap", "wait", "test-only", "help", "usage", "version", "export", "export-file"),
)

_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Profile:
    """Resources of one run, and the cluster's own ways. Empty strings and 0 leave a matter to the cluster."""

    name: str = "default"
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = "24:00:00"  # as sbatch takes it; a longer run continues in the next job
    nodes: int = 1
    gpus: int = 0  # per node, a process each
    processes: int = 0  # per node; 0: one for each GPU, or one
    runs_per_gpu: int = 0  # runs that share a job's one GPU, each a process of its own; 0: one
    cpus: int = 1  # per process
    memory: str = ""  # per node, for all runs of a job together, as sbatch takes it: 64G
    device: str = ""  # empty: cuda with GPUs, else cpu
    workers: int = 0  # loader processes beside each process
    precision: str = "float32"
    compile: str = ""  # inductor, graphs, inductor+graphs; true: inductor
    cudnn_benchmark: bool = True
    deterministic: bool = False
    max_parallel: int = 0  # runs at a time, 0: as many as the cluster gives
    retry: Mapping[str, Any] = field(default_factory=dict)  # memory = "2x": what ran out of it gets twice as much
    max_array_size: int = 0  # 0: as the cluster says
    warning: int = 120  # seconds before the time limit at which a run saves and goes back to the queue
    # The command that starts Python in a job: a line of shell, or a list of words, which are quoted; empty: this one.
    python: str | tuple[str, ...] = ""
    setup: tuple[str, ...] = ()  # shell lines before it, such as "module load cuda"
    notify: tuple[str, ...] = ()  # a command that a job calls when a run has ended: with its id, row and cause
    stage: tuple[str, ...] = ()  # data sets that a job copies to its node's own disk before it trains
    scratch: str = ""  # where to; empty: $SLURM_TMPDIR, else $TMPDIR
    options: Mapping[str, Any] = field(default_factory=dict)  # any other option of sbatch, by its long name
    pretrain: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compile", compiler(self.compile))
        for entry in dataclasses.fields(self):
            value: Any = getattr(self, entry.name)
            kind: Any = _KINDS.get(str(entry.type), Mapping)
            if tuple in (kind if isinstance(kind, tuple) else (kind,)) and isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, entry.name, value)
            if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
                raise ValueError(f"{entry.name}: {value!r} is not {_WORDS[kind]}")
            for word in value if isinstance(value, tuple) else (value,) * isinstance(value, str):
                if not isinstance(word, str):
                    raise ValueError(f"{entry.name}: {word!r} is not text")
                if entry.name != "setup":
                    _one_line(entry.name, word)
        _check(self.options)
        _check_stage(self.stage)
        self._check_sharing()
        if self.nodes < 1:
            raise ValueError("nodes: at least 1 is needed")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.compile not in COMPILERS:
            raise ValueError(f"compile: {self.compile!r} is not one of {', '.join(COMPILERS[1:])}")
        for stage in STAGES:
            own = self.at(stage)  # its settings are looked at now, not when the first run needs them
            if own.cluster != self.cluster:
                raise ValueError(f"{stage}.options.clusters: jobs wait for those of their own cluster alone: name one")

    def _check_sharing(self) -> None:
        if self.runs_per_gpu > 1 and self.nodes * self.processes_per_node > 1:
            raise ValueError(
                f"runs_per_gpu: {self.runs_per_gpu} runs share one GPU, but each is to have "
                f"{self.nodes * self.processes_per_node} processes: nodes = 1 and gpus = 1 (or processes = 1)"
            )
        for name, value in self.retry.items():
            if name != "memory" or not re.fullmatch(r"[0-9]+(\.[0-9]+)?x", str(value)) or float(value[:-1]) <= 1:
                raise ValueError(f'retry: {name} = {value!r}: what there is is memory = "2x"')
            for each in (self.memory, *(str(getattr(self, stage).get("memory", "")) for stage in STAGES)):
                if each and not _MEMORY.fullmatch(each):
                    raise ValueError(f"memory: {each!r}: with [retry] it is a number and K, M, G or T: 64G")

    def at(self, stage: str) -> Profile:
        """The same with the settings of a stage: `pretrain`, `train` or `evaluate`.

        One with nodes, GPUs or processes of its own says itself whether runs share them.
        """
        own = getattr(self, stage) if stage in STAGES else {}
        if own.keys() & {"nodes", "gpus", "processes"}:
            own = {"runs_per_gpu": 0, **own}
        return changed(self, {**dict.fromkeys(STAGES, _NONE), **own}) if own else self

    @property
    def processes_per_node(self) -> int:
        """How many processes share a run on one node."""
        return self.processes or self.gpus or 1

    @property
    def runs_per_job(self) -> int:
        """How many runs an element of an array carries out side by side."""
        return max(1, self.runs_per_gpu)

    @property
    def starts_python(self) -> str:
        """The command that starts Python in a job, as the shell reads it."""
        words = self.python or (sys.executable,)
        return words if isinstance(words, str) else shlex.join(words)

    def memory_after(self, had: str) -> str:
        """What a run gets that ran out of what it had (empty: what the profile says): more, where [retry] says so."""
        factor, before = str(self.retry.get("memory", "")), _megabytes(had or self.memory)
        if not factor or not before:
            return self.memory
        more = math.ceil(before * float(factor[:-1]))
        if more <= _megabytes(self.memory):
            return self.memory
        return f"{more // 1024}G" if more % 1024 == 0 else f"{more}M"

    @property
    def cluster(self) -> str:
        """The one of several clusters that jobs go to; empty: this machine's own.

        As sbatch reads it: [options] clusters, else $SBATCH_CLUSTERS, else $SLURM_CLUSTERS, where that names one.
        """
        told = (str(self.options.get("clusters", "")), *map(os.environ.get, ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")))
        return next((name for name in told if name and _CLUSTER.fullmatch(name) and name != "all"), "")

    @property
    def where(self) -> str:
        """The device that a process computes on."""
        return self.device or ("cuda" if self.gpus else "cpu")


_CLUSTER = re.compile(r"[\w.-]+")  # the name of one
_MEMORY = re.compile(r"([0-9]+)([KMGTkmgt]?)")  # as sbatch takes it; without a unit: M


def _megabytes(memory: str) -> float:
    """What sbatch takes as so much; 0 where that is nothing, or left to the cluster."""
    found = _MEMORY.fullmatch(memory)
    return int(found[1]) * 1024 ** ("KMGT".index((found[2] or "M").upper()) - 1) if found else 0.0


_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # kinds of characters that end a line, or are none


def _one_line(name: str, text: str) -> None:
    if any(unicodedata.category(letter) in _CONTROLS for letter in text):
        raise ValueError(f"{name}: {text!r} has a character that would end its line in the job script")


def _check_stage(names: tuple[str, ...]) -> None:
    """Whether these are data sets. `ValueError` names the one that is none."""
    if names:
        from segnext.data.datasets import DATASETS, IMAGENET  # numpy: not for a profile without

        if unknown := [name for name in names if name not in (*DATASETS, IMAGENET)]:
            raise ValueError(f"stage: {unknown[0]!r} is none of {', '.join((*DATASETS, IMAGENET))}")


def _check(options: Mapping[str, Any]) -> None:
    """Whether these options of sbatch leave to the study what it needs. `ValueError` names the one that does not."""
    for name, value in options.items():
        word = name.replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9]+(-[a-z0-9]+)*", word):
            raise ValueError(f"options: {name!r} is no long name of an option of sbatch")
        if value is False or not isinstance(value, str | int | float):
            raise ValueError(f"options.{name}: {value!r} is not text, a number or true")
        _one_line(f"options.{name}", str(value))
        # sbatch takes what begins like one option alone for it: --arr. Not so `gpus`, which is one itself.
        meant = [
            known for known in (*_SETTINGS, *_OURS) if known == word or (known.startswith(word) and word != "gpus")
        ]
        if meant and not (word == "export" and value in ("NONE", "ALL")):
            first = min(meant, key=len)
            why = f"there is the setting {_SETTINGS[first]}" if first in _SETTINGS else "the study says it itself"
            why = 'export is "NONE" or "ALL"; lines of setup set variables' if first.startswith("export") else why
            raise ValueError(f"options.{name}: not here: {why}")
        if "clusters".startswith(word) and (word != "clusters" or not _CLUSTER.fullmatch(str(value)) or value == "all"):
            raise ValueError(f'options.{name}: {value!r}: name one cluster: clusters = "wice"')


_KINDS: dict[str, Any] = {"str": str, "int": int, "bool": bool, "tuple[str, ...]": tuple}
_KINDS["str | tuple[str, ...]"] = (str, tuple)
_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    tuple: "a list of lines",
    Mapping: "a table",
}
_WORDS[str, tuple] = "text, or a list of words"


def changed(profile: Profile, settings: Mapping[str, Any]) -> Profile:
    """The profile with these settings instead. `ValueError` for one that no profile has."""
    known = {entry.name for entry in dataclasses.fields(Profile)}
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"unknown setting {name!r}" + (f" (did you mean {near[0]}?)" if near else ""))
    return dataclasses.replace(profile, **settings)


def profile(name: str) -> Profile:
    """The profile in this file, or of this name in slurm/profiles/. `ValueError` names the file and what is wrong."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in PROFILES.glob("*.toml"))) or "none here: name a FILE.toml"
        raise ValueError(f"--profile {name}: there is no {path}; slurm/profiles/ has {there}")
    try:
        return changed(Profile(), {"name": path.stem, **tomllib.loads(path.read_text())})
    except ValueError as error:  # a TOMLDecodeError is one
        raise ValueError(f"{path}: {error}") from None
