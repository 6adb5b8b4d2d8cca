"""What a person types on a machine with a card: the commands end to end, and errors that say what is wrong."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

from segnext import Data, Execution, Model, Run, Train
from segnext.data import cached, open_split
from segnext.model import SegNeXt
from segnext.released_weights import save_released
from segnext.training.train import train
from studies.records.causes import cause_of
from studies.records.store import Store

QUICK = ("table7", "--protocol", "quick")


def does(module: str, *words: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def test_the_doctor_sees_the_card(device: torch.device):
    said = does("studies.doctor", *QUICK, "--seeds", "0", "--cluster", "local")
    assert "no problem was found" in said
    if device.type == "cuda":
        assert torch.cuda.get_device_name(0) in said


def test_steps_are_measured_and_runs_share_the_card_up_to_the_report(device: torch.device, tmp_path: Path):
    where = ("--device", device.type)
    rehearsal = device.type == "cpu"
    what = ("table7/c-stage1", "--protocol", "smoke") if rehearsal else QUICK
    said = does("studies.probe", *what, *where, "--steps", "2")
    assert "s a step of" in said
    assert ("peak memory" in said) == (device.type == "cuda")
    limit = "2" if rehearsal else "20"
    short = ("--limit-iterations", limit, "--seeds", "0", "--max-parallel", "2")
    does("studies.run", *what, *where, *short)
    records = Store(tmp_path / "results").kind("run")
    assert len(records) >= (1 if rehearsal else 4)
    name = torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu"
    assert {record["provenance"]["device"] for record in records} == {name}
    assert (tmp_path / "results" / "table7.csv").is_file()
    does("reports.build", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "index.html").is_file()


def test_pictures_are_segmented_as_on_a_cpu(device: torch.device, tmp_path: Path):
    torch.manual_seed(0)
    weights = tmp_path / "weights.pt"
    save_released(SegNeXt(Model("micro"), 11), weights, {})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, size in enumerate([(97, 131), (240, 180), (240, 180)]):
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240)).save(pictures / f"{number}.png")
    words = (str(pictures), "--weights", str(weights), "--dataset", "camvid")
    labels = []
    for name in dict.fromkeys(("cpu", device.type)):
        said = does("segnext.predict", *words, "--device", name, "--out", str(tmp_path / name))
        assert "of 3 pictures" in said
        files = sorted((tmp_path / name).glob("*.labels.png"))
        labels.append(np.stack([np.asarray(Image.open(file)) for file in files]))
    assert len(np.unique(labels[0])) > 1
    assert (labels[0] == labels[-1]).mean() > 0.999  # but for rounding where two classes are as probable


@pytest.mark.parametrize(("asked", "visible"), [("cuda:99", None), ("cuda", "")])
@pytest.mark.parametrize("module", ["studies.run", "studies.probe"])
def test_a_card_that_is_not_there_is_said_in_a_line(module: str, asked: str, visible: str | None):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    said = does(module, *QUICK, "--seeds", "0", "--device", asked, code=3, **environment)
    assert f"--device {asked}: " in said


def test_too_large_a_batch_is_named_and_leaves_the_card_usable(device: torch.device, tmp_path: Path):
    data = Data("diagnostic/scene", 7, (96, 96), (64, 64), ratio=(0.75, 1.5), generator="1")
    run = Run("test", 1, Model("micro"), data, Train(iterations=1, batch=8, warmup_iterations=1), seed=3)
    source = cached(open_split(data, "train", None))
    large = dataclasses.replace(data, crop=(512, 512)), dataclasses.replace(run.train, batch=32)
    if device.type == "cuda":
        with pytest.raises(torch.OutOfMemoryError) as raised:
            with_little_memory(dataclasses.replace(run, data=large[0], train=large[1]), source, tmp_path / "first")
        assert cause_of(raised.value) == "out_of_memory"
        del raised
        torch.cuda.empty_cache()
    model, _ = train(run, source, tmp_path / "second", Execution(device=device.type))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def with_little_memory(run: Run, source: object, folder: Path) -> None:
    """Training where the card has room for the weights, if that."""
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + (16 << 20)) / total)
    try:
        train(run, source, folder, Execution(device="cuda"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_an_error_of_the_card_is_a_cause_of_its_own(device: torch.device):
    """In a process of its own: nothing works there any more afterwards."""
    program = (
        "import torch; from studies.records.causes import cause_of\n"
        "try:\n"
        "    if torch.cuda.is_available():\n"
        "        torch.zeros(2, device='cuda')[torch.tensor([5], device='cuda')]; torch.cuda.synchronize()\n"
        "    else:\n"
        "        raise torch.AcceleratorError('CUDA error: unspecified launch failure')\n"
        "except RuntimeError as error: print(cause_of(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["device"], done.stderr
