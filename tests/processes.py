"""The project's commands as processes of their own: started, awaited, and watched until a run has trained so far."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import REPOSITORY
from PIL import Image

from studies.declare.protocols import PROTOCOLS
from studies.tables import study

LONGER = ("--protocol", "quick", "--limit-iterations", "30")


def command(*words: str, module: str = "studies.run") -> list[str]:
    return [sys.executable, "-m", module, *words]


def run(*words: str, module: str = "studies.run", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words, module=module),
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def eventually(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def trained(runs: Path, run_id: str, iteration: int) -> Callable[[], bool]:
    """Whether the run has trained so far, by its own report."""
    path = runs / run_id / "progress.json"

    def look() -> bool:
        if not path.exists():
            return False
        progress = json.loads(path.read_text())
        return progress["phase"] == "train" and progress["done"] >= iteration

    return look


def run_id(row: str, iterations: int) -> str:
    table7 = study("table7")
    return PROTOCOLS["quick"].run(table7.panel(), table7.row(row), 0, iterations).id


def camvid(root: Path, frames: int = 2) -> Path:
    """A tiny folder in the SegNet tutorial's layout."""
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        stems = [f"{split}{number}" for number in range(frames)]
        for folder, mode in ((split, "RGB"), (f"{split}annot", "L")):
            (root / folder).mkdir(parents=True)
            for stem in stems:
                shape = (90, 120, 3) if mode == "RGB" else (90, 120)
                pixels = random.integers(0, 256 if mode == "RGB" else 12, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{stem}.png")
        lines = [f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png" for stem in stems]
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root
