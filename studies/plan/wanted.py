"""What the options of `studies.run` select: the wanted runs, those that start, and the resources of a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from segnext.config import Speed
from studies.declare.protocols import Protocol
from studies.plan.options import COMPUTED
from studies.plan.runs import PlannedRun, Selection, evaluations, imports, plan, speeds, upstream
from studies.records.provenance import code_fingerprint
from studies.records.store import Store, runs_folder
from studies.records.workspace import Workspace
from studies.slurm.profile import STAGES, Profile, changed, profile


def wanted(
    options: argparse.Namespace, selections: list[Selection], chosen: Protocol, store: Store
) -> list[PlannedRun]:
    """The wanted runs, by `--only`."""
    match options.only:
        case "cost" | "speed":
            return []
        case "evaluate" if options.weights:
            return imports(selections, chosen, store, options.weights, options.ham_seeds)
        case "evaluate":
            return evaluations(selections, chosen, options.limit_iterations, store, options.ham_seeds)
        case "train":
            runs = plan(selections, chosen, options.limit_iterations, store)
            return [planned for planned in runs if planned.state != "trained"]
        case "pretrain":
            runs = plan(selections, chosen, options.limit_iterations, store)
            return [planned for planned in runs if planned.upstream or planned.run.task == "classification"]
        case _:
            return plan(selections, chosen, options.limit_iterations, store)


def to_start(runs: Sequence[PlannedRun], options: argparse.Namespace) -> list[PlannedRun]:
    """The runs to start, in the plan's order, without those whose upstream run will be missing."""
    todo: list[PlannedRun] = []
    absent = set()
    for planned in runs:
        before = upstream(planned)
        waits = before is not None and before.id in absent
        if not waits and _starts(planned, options):
            todo.append(planned)
            continue
        comes = planned.state in ("running", "queued") and options.cluster == "slurm" and bool(planned.stands.job)
        if planned.state != "done" and not comes:
            absent.add(planned.id)
    return todo


def _starts(planned: PlannedRun, options: argparse.Namespace) -> bool:
    match planned.state:
        case "done":
            return not planned.upstream and (
                options.rerun == "done" or (options.rerun == "stale" and bool(planned.stands.detail))
            )
        case "running":
            return options.cluster != "slurm" and not planned.stands.job  # wait for it; take it over if left unfinished
        case "queued" | "unknown":
            return False
        case "failed":
            mended = planned.stands.cause == "code" and _other_code(planned)
            return mended or options.rerun == "failed" or planned.stands.cause in options.retry
        case _:
            return True


def _other_code(planned: PlannedRun) -> bool:
    """Whether today's code differs from the code that failed."""
    last = Workspace(planned.id).last_attempt()
    return last is not None and last.code != code_fingerprint("run")


def nothing_to_evaluate(options: argparse.Namespace) -> str:
    """The message when `--only evaluate` finds nothing: why, and what to do."""
    if options.weights:
        return (
            f"no file in {options.weights} is named like a wanted row's weights: ROW_DATASET.pth (table9: "
            "t_ade20k.pth), or as its authors or mmsegmentation named it (segnext_tiny_512x512_ade_160k.pth)"
        )
    return f"none of these runs has finished weights under {runs_folder()}; train them first, or name --weights DIR"


def resources_of(options: argparse.Namespace) -> Profile:
    """The resources of a run: the profile's, or here one process with one thread, changed by the options typed."""
    named = profile(options.profile or "default") if options.cluster == "slurm" else Profile(name="local")
    names = ("partition", "account", "qos", "time", "memory", "constraint", "nodes", "gpus", "max_parallel")
    typed = {name: getattr(options, name) for name in (*names, "device", "workers", *COMPUTED)}
    typed |= {"cpus": options.threads, "runs_per_gpu": options.per_gpu}
    settings = {name: value for name, value in typed.items() if value is not None}
    if options.cluster != "slurm":
        device = settings.setdefault("device", "cpu")
        if options.per_gpu and not device.startswith("cuda"):
            raise ValueError(f"--per-gpu: --device {device} is no card; --max-parallel says how many at a time")
    stages = {stage: {k: v for k, v in getattr(named, stage).items() if k not in settings} for stage in STAGES}
    return changed(named, settings | stages)


def speeds_wanted(options: argparse.Namespace, selections: list[Selection], store: Store) -> list[tuple[str, Speed]]:
    """The speeds to measure on this machine, each with a label."""
    # A frame rate measured beside training would be that of a busy machine, so it is measured only on request.
    asked = [s for s in selections if s.study.squares or (s.study.timed and options.only == "speed")]
    if options.only not in (None, "speed") or not asked:
        return []
    from studies.records.provenance import platform_of

    return speeds(
        asked, platform_of(options.device or "cpu", options.threads or 1, options.precision or "float32"), store
    )
