"""What a worker is told to do, as JSON, and back: names in today's declarations, never a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segnext.config import Data, Evaluation, Execution, Run, Weights
from studies.plan import Cell
from studies.protocols import protocol
from studies.standing import standing
from studies.store import Store
from studies.study import study
from studies.weights import sha256


def specification(
    cell: Cell,
    limit_iterations: int | None,
    data_root: Path | None,
    pretrained: Path | None,
    execution: Execution,
    command: str,
    tensorboard: bool = False,
    *,
    train_only: bool = False,
    supersedes: str | None = None,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """What a worker needs to know. `supersedes`: the digest of the record that its own is to replace.

    `options` are the words that start the run again as it was started, after its selector.
    """
    return {
        "study": cell.study.slug,
        "dataset": cell.panel.dataset,  # the panel of the table; what the run is trained on is the protocol's
        "row": cell.row.slug,
        "protocol": cell.run.protocol,
        "seed": cell.run.seed,
        "limit_iterations": limit_iterations,
        "upstream": cell.upstream,
        "ham_seed": cell.evaluation.ham_seed if cell.evaluation else None,
        "weights": _absolute(cell.weights),
        "data_root": _absolute(data_root),
        "pretrained": _absolute(pretrained),
        "execution": dataclasses.asdict(execution),
        "command": command,
        "tensorboard": tensorboard,
        "train_only": train_only,
        "supersedes": supersedes,
        "options": list(options),
    }


def specified_run(spec: dict[str, Any]) -> Run:
    """The run that a specification means, by today's declarations."""
    declared = study(spec["study"])
    panel, row = declared.panel(spec["dataset"]), declared.row(spec["row"])
    run = protocol(spec["protocol"]).run(panel, row, spec["seed"], spec["limit_iterations"])
    for _ in range(spec["upstream"]):
        assert isinstance(run.init, Run)
        run = run.init
    return run


def specified_evaluation(spec: dict[str, Any], run: Run) -> Evaluation | None:
    """The test of finished weights that a specification means; None where it means a training."""
    if spec["ham_seed"] is None:
        return None
    assert isinstance(run.data, Data)
    weights: Run | Weights = run
    if spec["weights"]:
        path = Path(spec["weights"])
        weights = Weights(path.name, sha256(path))
    return Evaluation(weights, run.model, run.data, spec["ham_seed"])


def specified_cell(spec: dict[str, Any], store: Store) -> Cell:
    """The cell that a specification was made for. `ValueError` where today's declarations have no such row."""
    run = specified_run(spec)
    declared = study(spec["study"])
    evaluation = specified_evaluation(spec, run)
    return Cell(
        declared,
        declared.panel(spec["dataset"]),
        declared.row(spec["row"]),
        run,
        standing(evaluation or run, store),
        spec["upstream"],
        evaluation,
        Path(spec["weights"]) if spec["weights"] else None,
    )


def _absolute(path: Path | None) -> str | None:
    return str(path.resolve()) if path else None
