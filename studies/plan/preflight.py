"""Checks, before the first run starts, what every run needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from segnext.config import Run
from studies.plan.runs import PlannedRun
from studies.plan.weights import pretrained_file
from studies.records.store import Store, runs_folder
from studies.records.workspace import Workspace

FREE_OF_RUNS = 500e6  # bytes: two states and a temporary one of the present runs, with room to spare
FREE_OF_RESULTS = 20e6  # records and curves


class PreflightError(Exception):
    """Something that every run needs is missing; nothing was started."""


def check(
    todo: Sequence[PlannedRun],
    coming: set[str],
    data_root: Path | None,
    pretrained: Path | None,
    store: Store,
    packed: Sequence[str] = (),
) -> None:
    """Check data, initial weights and folders to write to. `coming` are runs in progress or about to start.

    `packed` are data sets that lie under the data root as files for jobs to unpack: there is no folder to look into.

    Raises `PreflightError`, and `ValueError` for released weights that are missing.
    """
    check_inputs(todo, coming, data_root, pretrained, packed)
    if closed := [planned.folder.folder for planned in todo if closed_to_us(planned.folder.folder)]:
        words = ", ".join(map(str, closed[:3])) + (f" and {len(closed) - 3} more" if closed[3:] else "")
        raise PreflightError(f"you may not write in {words}: {OPENED.format(folder=closed[0])}")
    for folder, needed in {store.folder: FREE_OF_RESULTS, runs_folder(): FREE_OF_RUNS}.items():
        try:
            free = room(folder)
        except OSError as error:
            raise PreflightError(f"{folder} cannot be written ({error.strerror})") from None
        if todo and free < needed:
            raise PreflightError(f"{folder} has {free / 1e6:.0f} MB free; at least {needed / 1e6:.0f} are needed")


def check_inputs(
    todo: Sequence[PlannedRun],
    coming: set[str],
    data_root: Path | None,
    pretrained: Path | None,
    packed: Sequence[str] = (),
) -> None:
    """Check data and initial weights, as `check` does, and write nothing."""
    for planned in todo:
        init = None if planned.evaluation else planned.run.init
        if isinstance(init, Run) and init.id not in coming and not Workspace(init.id).weights.exists():
            raise PreflightError(
                f"{planned.label} starts from run {init.id}, which is recorded, but its weights are not at "
                f"{Workspace(init.id).weights}; bring them back, or delete the record to train it again"
            )
        if isinstance(init, str):
            if pretrained is None:
                raise PreflightError(
                    f"{planned.label} starts from released ImageNet weights; name their folder: --pretrained"
                )
            pretrained_file(pretrained, init)
    from segnext.data import open_split  # imports numpy, which would double the time of a list

    try:
        for data, split in dict.fromkeys(
            (planned.run.data, split)
            for planned in todo
            for split in (planned.run.data.train_split, planned.run.data.test_split)[planned.evaluation is not None :]
            if planned.run.data.dataset not in packed
        ):
            open_split(data, split, data_root)
    except ValueError as error:
        protocols = {planned.run.protocol for planned in todo}
        hint = "; --protocol quick needs no data" if protocols & {"paper", "paper-pretrained"} else ""
        raise PreflightError(f"{error}{hint}") from None


OPENED = "chmod -R g+rwX {folder}, by its owner, whose umask should be 002, so that colleagues may continue such runs"


def closed_to_us(folder: Path) -> bool:
    """Whether a run, a colleague's say, left a folder in which, or within which, we may not write."""
    try:
        with os.scandir(folder) as inside:
            places = [folder, *(Path(entry.path) for entry in inside if entry.is_dir(follow_symlinks=False))]
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return not all(os.access(place, os.W_OK | os.X_OK) for place in places)


def room(folder: Path) -> int:
    """Free bytes in a folder, which is created if missing. Raises `OSError` if it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return shutil.disk_usage(folder).free


def check_device(device: str) -> None:
    """Raise `PreflightError` if this machine cannot compute on a device, before every run fails on it."""
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PreflightError(f"--device {device}: {str(error).strip().splitlines()[0]}") from None
