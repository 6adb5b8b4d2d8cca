"""`Run`: a training with its evaluation. `Evaluation`: a test of finished weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from segnext.config.architecture import Model
from segnext.config.dataset import ClassificationData, Data
from segnext.config.fields import require
from segnext.config.identity import as_text, canonical, digest, fields, sha256
from segnext.config.recipe import ClassificationTrain, Train


@dataclass(frozen=True)
class Run:
    """One training with its evaluation. Equal runs have equal ids, so tables share them.

    Raises `ValueError` if the recipe does not go with the data.
    """

    protocol: str
    protocol_version: int
    model: Model
    data: Data | ClassificationData
    train: Train | ClassificationTrain
    seed: int = 0
    init: Run | str | None = None  # the run or the released weights to start from; None: train from scratch

    def __post_init__(self) -> None:
        require(
            isinstance(self.data, Data) == isinstance(self.train, Train),
            f"Run.train: a {type(self.train).__name__} does not go with a {type(self.data).__name__}",
        )

    @property
    def task(self) -> str:
        """`segmentation` or `classification`."""
        return "segmentation" if isinstance(self.data, Data) else "classification"

    def resolved(self) -> dict[str, Any]:
        """The fields as JSON-ready data, with an upstream run replaced by its id."""
        data = fields(self, skip=("init",))
        return {**data, "init": self.init.id if isinstance(self.init, Run) else self.init}

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name the run."""
        return digest(self)

    def seeded(self, seed: int) -> Run:
        """The same run with another seed; what thousands of seeds share is resolved once."""
        run = copy(self)
        vars(run).pop("id", None)
        vars(run).update(seed=seed, _canonical={**canonical(self), "seed": seed}, _digest=self.digest_seeded(seed))
        return run

    def digest_seeded(self, seed: int) -> str:
        """The whole digest of the same run with another seed; its id is the beginning of it."""
        before, after = self._around_seed
        return sha256(f"{before}{seed}{after}")

    @cached_property
    def _around_seed(self) -> tuple[str, str]:
        """The canonical text before the seed and after it: keys are sorted, and the recipe's is the last."""
        after = f',"train":{as_text(canonical(self.train))}}}'
        before = as_text(canonical(self)).removesuffix(f"{self.seed}{after}")
        assert before.endswith('"seed":'), before[-40:]
        return before, after


@dataclass(frozen=True)
class Weights:
    """Weights that were trained elsewhere: a file, identified by its content."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Evaluation:
    """A test of finished weights: a second one of a run, or one of a file, which never counts as a reproduction.

    `ham_seed` draws the bases that Ham starts from; the evaluation that belongs to a run uses 0.
    """

    weights: Run | Weights
    model: Model
    data: Data
    ham_seed: int = 0

    def resolved(self) -> dict[str, Any]:
        """The fields as JSON-ready data, with a run replaced by its id."""
        if isinstance(self.weights, Run):
            return {**fields(self, skip=("weights",)), "weights": self.weights.id}
        return fields(self)

    @cached_property
    def id(self) -> str:
        """`evaluation-` and twelve hexadecimal digits."""
        return "evaluation-" + digest(self)


def resolved_run(configurations: Sequence[Mapping[str, Any]]) -> Run:
    """The inverse of `canonical`: the run from its own configuration and those of its upstream runs, nearest first.

    Raises `ValueError` if today's code knows no run with these configurations.
    """
    try:
        first, *before = configurations
        own = dict(first)
        init = resolved_run(before) if before else own["init"]
        if isinstance(init, Run) and init.id != own["init"]:
            raise ValueError(f"it starts from {own['init']}, not from {init.id}")
        task = (Data, Train) if "photometric" in own["data"] else (ClassificationData, ClassificationTrain)
        parts = {
            "model": _read_model(own["model"]),
            "data": _read(task[0], own["data"]),
            "train": _read(task[1], own["train"]),
            "init": init,
        }
        run = Run(**{**own, **parts})
        if canonical(run) != first:
            raise ValueError("it resolves to another configuration with today's code")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the configuration of a run: {error}") from None
    return run


def _read_model(data: Mapping[str, Any]) -> Model:
    names = [field.name for field in dataclasses.fields(Model) if field.name in data]
    return _read(Model, {name: data[name] for name in names})


def _read(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """A value from its canonical fields; a field that is left out takes its frozen literal."""
    frozen = {field.name: field.metadata["frozen"] for field in dataclasses.fields(kind) if "frozen" in field.metadata}
    return kind(**frozen | {name: _tuples(value) for name, value in data.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
