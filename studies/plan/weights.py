"""Finds files of weights that were trained elsewhere, by their names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from segnext.config import Model, Run
from studies.declare.protocols import RELEASED
from studies.declare.study import Panel, Row
from studies.records.causes import OtherWeights

_SIZES = {"T": "tiny|t", "S": "small|s", "B": "base|b", "L": "large|l"}
_DATASETS = {
    "ade20k": "ade20k|ade",
    "cityscapes": "cityscapes|city",
    "coco_stuff164k": "coco[-_]?stuff164k|coco[-_]?stuff|coco",
}


def weights_file(folder: Path, row: Row, panel: Panel, run: Run) -> Path | None:
    """The file in a folder with the weights of a row; None if there is none.

    It is named `ROW_DATASET.pth` (the row's slug, the dataset's name) or, for SegNeXt as in the paper, as the authors
    (`segnext_tiny_512x512_ade_160k.pth`) or mmsegmentation (`segnext_mscan-t_..._ade20k_....pth`) name theirs.
    Raises `ValueError` if several files fit.
    """
    dataset = run.data.dataset.replace("/", "_")
    patterns = [rf"{re.escape(row.slug)}[_-]{re.escape(dataset)}"]
    if run.model == Model(run.model.size) and run.model.size in _SIZES:
        names = _DATASETS.get(dataset, re.escape(dataset))
        patterns.append(rf"segnext[_-](mscan-)?({_SIZES[run.model.size]})[_-](.*[_-])?({names})([_-].*)?")
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in (".pth", ".pt") and any(re.fullmatch(p, path.stem, re.IGNORECASE) for p in patterns)
    ]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: {names} all look like the weights of {row.label} on {panel.title}; keep one")
    return found[0] if found else None


def pretrained_file(folder: Path, init: str) -> Path:
    """The file of released ImageNet-1K weights that `Run.init` names: `mscan_t.pth` or `mscan_t*.pth[.tar]`.

    Raises `ValueError` if there is none, or if there are several.
    """
    name = init.removeprefix(RELEASED)
    suffixes = (".pth", ".pt", ".tar")
    found = sorted(path for path in folder.glob(f"{name}*") if path.suffix in suffixes) if folder.is_dir() else []
    if len(found) != 1:
        what = f"several files are named so: {', '.join(path.name for path in found)}" if found else "no file is"
        fetch = f"python -m segnext.weights fetch {name} --to {folder}" if name.startswith(("mscan_", "van_")) else ""
        remedy = f"name the folder with --pretrained{f', or: {fetch}' if fetch and not found else ''}"
        raise ValueError(f"{folder}: released ImageNet weights {name}.pth are needed, and {what}; {remedy}")
    return found[0]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, by which records name it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(path: Path, recorded: str, whose: str) -> str:
    """The digest of a file of weights if it is the recorded one; otherwise raises `OtherWeights`, naming both.

    torch checks no checksum when it loads: of files with a flipped bit every fourth loads, with wrong weights.
    """
    found = sha256(path)
    if found != recorded:
        raise OtherWeights(
            f"{whose}: {path} has the digest {found}, but {recorded} is recorded: the file was damaged or replaced; "
            "restore the recorded one, or do the run again with --rerun done"
        )
    return found
