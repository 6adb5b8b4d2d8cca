"""From a planned run to a worker's `JobSpec` and back. A specification holds values, never names to look up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from segnext.config import Data, Evaluation, Execution, Run, Weights, canonical, resolved_run
from studies.declare.study import Panel, Row, Study
from studies.plan.runs import PlannedRun
from studies.plan.state import standing
from studies.records.glance import Glance
from studies.records.specifications import Pattern
from studies.records.store import Store
from studies.records.working_state import JobSpec
from studies.records.workspace import Workspace
from studies.tables import study


def specification(
    planned: PlannedRun,
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
) -> JobSpec:
    """Everything that a worker needs. `supersedes` is the digest of the record that the worker's own will replace.

    `options` are the words that, after its selector, start the run again as it was started.
    """
    runs = [planned.run]
    while isinstance(runs[-1].init, Run):
        runs.append(runs[-1].init)
    evaluation = planned.evaluation
    as_row = evaluation is None or evaluation.model == planned.run.model
    return JobSpec(
        study=planned.study.slug,
        dataset=planned.panel.key,
        row=planned.row.slug,
        protocol=planned.run.protocol,
        seed=planned.run.seed,
        runs=tuple(map(canonical, runs)),
        execution=execution,
        command=command,
        limit_iterations=limit_iterations,
        upstream=planned.upstream,
        evaluation="" if evaluation is None else "file" if isinstance(evaluation.weights, Weights) else "run",
        ham_seed=evaluation.ham_seed if evaluation else 0,
        weights=_absolute(planned.weights),
        weights_sha256=evaluation.weights.sha256 if evaluation and isinstance(evaluation.weights, Weights) else "",
        weights_rank=0 if evaluation is None or as_row else evaluation.model.widths.nmf_rank,
        data_root=_absolute(data_root),
        pretrained=_absolute(pretrained),
        tensorboard=tensorboard,
        train_only=train_only,
        supersedes=supersedes,
        options=tuple(options),
    )


def specified_run(spec: JobSpec) -> Run:
    """The run in a specification. Raises `ValueError` if today's code knows no such run."""
    return resolved_run(spec.runs)


def specified_evaluation(spec: JobSpec, run: Run) -> Evaluation | None:
    """The test of finished weights in a specification; None if it is for a training.

    Raises `ValueError` for a test of data without segmentation labels.
    """
    if not spec.evaluation:
        return None
    if not isinstance(run.data, Data):
        raise ValueError(f"a test of {run.data.dataset} has no seed of Ham's")
    weights = Weights(Path(spec.weights or "").name, spec.weights_sha256) if spec.evaluation == "file" else run
    model = dataclasses.replace(run.model, nmf_rank=spec.weights_rank) if spec.weights_rank else run.model
    return Evaluation(weights, model, run.data, spec.ham_seed)


def specified_planned_run(spec: JobSpec, store: Store, workspace: Workspace | None = None) -> PlannedRun:
    """The run that a specification was made for. `ValueError` where today's declarations have no such row.

    `workspace`: its folder, where somebody has looked at it already.
    """
    pattern = workspace.pattern if workspace else None
    declared, panel, row, run = _declared_alike(pattern) if pattern else _declared(spec)
    if pattern:
        run = run.seeded(spec.seed)
    evaluation = specified_evaluation(spec, run)
    workspace = workspace or Glance((evaluation or run).id)
    return PlannedRun(
        declared,
        panel,
        row,
        run,
        standing(evaluation or run, store, workspace=workspace),
        spec.upstream,
        evaluation,
        Path(spec.weights) if spec.weights else None,
        workspace,
    )


def _declared(spec: JobSpec) -> tuple[Study, Panel, Row, Run]:
    run = specified_run(spec)
    declared = study(spec.study)
    return declared, declared.panel(spec.dataset), declared.row(spec.row), run


@lru_cache(1024)
def _declared_alike(pattern: Pattern) -> tuple[Study, Panel, Row, Run]:
    """What thousands of specifications share that differ in their seed alone is found out once."""
    return _declared(pattern.spec)


def _absolute(path: Path | None) -> str | None:
    return str(path.resolve()) if path else None
