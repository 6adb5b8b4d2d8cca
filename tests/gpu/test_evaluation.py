"""An evaluation on the card counts what one on the CPU counts, without a question between images, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from segnext import Data, Model, SegNeXt
from segnext.data import open_split
from segnext.fast.upsampling import likeliest
from segnext.testing import evaluate
from segnext.testing.evaluate import predictions
from segnext.testing.metrics import Boundary, Confusion, _histogram, _summed

SCENE = Data("diagnostic/scene", 7, (96, 96), (96, 96), test_scales=(0.5, 1.0, 1.75), generator="1")
WINDOWS = dataclasses.replace(SCENE, window=(64, 64), stride=(40, 40))
CPU = torch.device("cpu")


class Few:
    """The first images of the generated split; of two sizes."""

    def __init__(self, count: int) -> None:
        self._source, self._count = open_split(SCENE, "val", None), count
        self.classes, self.labelled, self.name = self._source.classes, True, self._source.name

    def __len__(self) -> int:
        return self._count

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = self._source.load(index)
        return (image, label) if index % 4 else (image[:80].copy(), label[:80].copy())


@pytest.fixture(scope="module")
def micro() -> SegNeXt:
    """Not a new one, whose scores are all but equal everywhere."""
    torch.manual_seed(0)
    model = SegNeXt(Model("micro"), 7).eval()
    with torch.no_grad():
        model.decoder.classifier.weight.normal_(0, 1)
        for name, value in model.state_dict().items():
            if "scale" in name:
                value.uniform_(0.1, 0.5)
    return model


@contextmanager
def unasked(device: torch.device) -> Iterator[None]:
    """Within, a question to the card is an error."""
    if device.type == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("data", "multi_scale", "workers"),
    [(SCENE, False, 0), (SCENE, True, 2), (WINDOWS, False, 2), (WINDOWS, True, 0)],
    ids=["single", "multi", "windows", "windows multi"],
)
def test_the_card_counts_what_the_cpu_counts(
    micro: SegNeXt, device: torch.device, data: Data, multi_scale: bool, workers: int
):
    options = {"multi_scale": multi_scale, "batch": 3, "workers": workers}
    expected = evaluate.evaluate(micro, Few(4), data, **options)
    score = evaluate.evaluate(micro.to(device), Few(4), data, device=device, **options)
    micro.cpu()
    found, counted = np.array(score.confusion), np.array(expected.confusion)
    assert (found.sum(1) == counted.sum(1)).all(), "labels are the same"
    assert abs(found - counted).sum() / 2 <= 1e-3 * counted.sum()
    assert len(found.sum(0).nonzero()[0]) > 1, "the network says one thing everywhere: this compares nothing"
    assert score.boundary_miou == pytest.approx(expected.boundary_miou, abs=0.2)


def test_equal_predictions_have_exactly_equal_counts(device: torch.device):
    random = np.random.default_rng(0)
    maps = random.integers(0, 9, (2, 3, 12, 10)).repeat(9, axis=2).repeat(11, axis=3).astype(np.uint8)
    maps[1][random.random(maps[1].shape) < 0.1] = 255
    maps[1][random.random(maps[1].shape) < 0.01] = 200
    prediction, label = torch.from_numpy(maps)
    for make in (Confusion, Boundary):
        expected, found = make(9), make(9, device=device)
        expected.add(prediction, label)
        found.add(prediction.to(device), label.to(device))
        found.count(prediction.to(device), label.to(device))
        assert torch.equal(found.counts.cpu(), 2 * expected.counts)
        assert found.counts.device.type == device.type
    cells = torch.from_numpy(random.integers(0, 30, 10_000)).to(device)
    assert torch.equal(_summed(cells, 40).cpu(), torch.bincount(cells.cpu(), minlength=40))
    assert torch.equal(_histogram(cells, 40).cpu(), torch.bincount(cells.cpu(), minlength=40))


@pytest.mark.parametrize("data", [SCENE, WINDOWS], ids=["whole", "windows"])
@pytest.mark.parametrize("multi_scale", [False, True])
def test_nothing_waits_for_an_image(micro: SegNeXt, device: torch.device, data: Data, multi_scale: bool):
    model, source = micro.to(device), Few(4)
    confusion, boundary = Confusion(7, device), Boundary(7, device=device)
    seen = 0

    def images() -> Iterator[tuple[evaluate._Group, Tensor]]:
        return evaluate._predicted(model, source, data, multi_scale=multi_scale, batch=2, device=device)

    for group, predicted in images():  # the first time matrices are made and algorithms are chosen
        confusion.count(predicted, group.labels)
        boundary.count(predicted, group.labels)
    steps = images()
    first = next(steps)  # networks are folded before the first image
    with unasked(device):
        for group, predicted in (first, *steps):
            confusion.count(predicted, group.labels)
            boundary.count(predicted, group.labels)
            seen += len(group.numbers)
    assert seen == 4
    micro.cpu()
    pixels = sum((source.load(number)[1] != 255).sum() for number in range(4))
    assert confusion.counts.sum() == 2 * pixels


def test_a_group_takes_no_more_memory_than_is_allowed(
    micro: SegNeXt, device: torch.device, monkeypatch: pytest.MonkeyPatch
):
    """Pictures, both flips, features and scores at the largest scale: what is measured of a pass bounds a group."""
    model = micro.to(device)
    data = dataclasses.replace(SCENE, scale=(384, 384))
    limit = 256 << 20
    monkeypatch.setattr(evaluate, "MEMORY_LIMIT", {"cpu": limit, device.type: limit})
    batches: list[int] = []
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    original = evaluate._scores

    def seen(network: torch.nn.Module, pictures: Tensor, settings: Data):
        batches.append(len(pictures))
        return original(network, pictures, settings)

    monkeypatch.setattr(evaluate, "_scores", seen)
    found = list(predictions(model, Few(6), data, multi_scale=True, batch=6, device=device))
    assert sum(len(numbers) for numbers, *_ in found) == 6
    assert 2 <= max(batches) < 12, "this limit does not bite"
    if device.type == "cuda":
        workspaces = 512 << 20  # cuDNN's and cuBLAS's own, and a block of the upsampling
        assert torch.cuda.max_memory_allocated() - before <= limit + workspaces
    micro.cpu()


def test_of_equal_scores_the_first_class_is_taken_and_one_that_is_no_number_stays_where_it_is(device: torch.device):
    scores = torch.zeros(2, 9, 8, 8, device=device)
    scores[:, 3] = scores[:, 5] = 0.1
    assert (likeliest(scores, [(64, 48)]) == 3).all()
    for value, winner in ((float("nan"), 7), (float("inf"), 7), (float("-inf"), 3)):
        broken = scores.clone()
        broken[0, 7, 4, 4] = value
        found = likeliest(broken, [(64, 48)])
        touched = found == 7
        assert (found[~touched] == 3).all()
        assert (touched.sum() > 0) == (winner == 7)
        assert touched.sum() <= 16 * 12
