"""Mean IoU is exact, agrees with an independent implementation, and does not depend on how images arrive."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassJaccardIndex

from segnext import Data, Model, SegNeXt
from segnext.data import open_split
from segnext.evaluate import evaluate, probabilities
from segnext.metrics import Confusion

seeds = st.integers(0, 10**6)


def random_pair(seed: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, classes, (2, 13, 17), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.1] = 255
    return torch.randint(0, classes, label.shape, generator=generator), label


@settings(max_examples=30, deadline=None)
@given(seed=seeds, classes=st.integers(2, 12))
def test_mean_iou_agrees_with_torchmetrics(seed: int, classes: int):
    prediction, label = random_pair(seed, classes)
    confusion = Confusion(classes)
    confusion.add(prediction, label.to(torch.uint8))
    theirs = MulticlassJaccardIndex(classes, ignore_index=255, average="macro")(prediction, label)
    assert confusion.score().miou == pytest.approx(100 * theirs.item(), rel=1e-6)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_order_and_grouping_of_images_never_matters(seed: int):
    prediction, label = random_pair(seed, 5)
    together, apart = Confusion(5), Confusion(5)
    together.add(prediction, label)
    for index in (1, 0):
        apart.add(prediction[index], label[index])
    assert together.score() == apart.score()


def test_a_class_that_is_nowhere_does_not_enter_the_mean():
    confusion = Confusion(3)
    confusion.add(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]))
    score = confusion.score()
    assert score.iou == [50.0, pytest.approx(200 / 3), None]
    assert score.miou == pytest.approx((50 + 200 / 3) / 2)
    assert score.pixel_accuracy == 75.0


def test_a_label_out_of_range_is_a_false_positive_of_whatever_was_predicted():
    """As measured on the released code (datasets.md, section 3)."""
    confusion = Confusion(2)
    confusion.add(torch.tensor([0, 0, 1]), torch.tensor([0, 7, 1]))
    assert confusion.score().iou == [50.0, 100.0]
    assert confusion.score().pixel_accuracy == 100.0


def test_nothing_to_score_is_not_a_zero():
    confusion = Confusion(2)
    confusion.add(torch.tensor([0]), torch.tensor([255]))
    assert confusion.score().miou is None
    assert confusion.score().pixel_accuracy is None


@pytest.mark.parametrize("multi_scale", [False, True])
def test_a_model_that_knows_the_answer_scores_100(multi_scale: bool):
    """Through the whole test path: resizing, flips, averaging over passes, and the labels' own size."""
    data = Data("diagnostic/scene", 7, (96, 96), (96, 96), ratio=(1.0, 1.0), test_scales=(1.0,), generator="1")
    source = open_split(data, "val", None)

    class Few:
        classes = source.classes

        def __len__(self) -> int:
            return 4

        def load(self, index: int):
            image, label = source.load(index)
            image[...] = label[..., None]  # the answer, painted into the image
            return image, label

    class Reader(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values = (x[:, 0] * 58.395 + 123.675).round().long()
            return 100 * torch.nn.functional.one_hot(values, 7).permute(0, 3, 1, 2).float()

    score = evaluate(Reader(), Few(), data, multi_scale=multi_scale, batch=3)
    assert score.miou == 100.0


def test_images_are_grouped_by_size_and_each_counts_once():
    class Sizes:
        classes = ("a", "b")
        shapes = ((40, 40), (40, 40), (40, 40), (40, 50), (40, 40))

        def __len__(self) -> int:
            return len(self.shapes)

        def load(self, index: int):
            label = np.full(self.shapes[index], index % 2, dtype=np.uint8)
            return np.zeros((*label.shape, 3), dtype=np.uint8), label

    class First(torch.nn.Module):
        batches: ClassVar[list[int]] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.batches.append(len(x))
            return torch.tensor([1.0, 0.0])[None, :, None, None].expand(len(x), 2, *x.shape[2:])

    seen = []
    data = Data("camvid", 2, (40, 40), (40, 40))
    score = evaluate(First(), Sizes(), data, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert First.batches == [2, 1, 1, 1]
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert score.pixel_accuracy == pytest.approx(100 * 3 * 1600 / (4 * 1600 + 2000))


def test_multi_scale_probabilities_are_the_mean_over_scales_and_flips():
    data = Data("diagnostic/scene", 7, (96, 96), (96, 96), test_scales=(0.5, 1.0), generator="1")
    images = torch.from_numpy(open_split(data, "val", None).load(0)[0])[None]
    model = SegNeXt(Model("micro"), 7).eval()
    cpu = torch.device("cpu")
    whole = probabilities(model, images, data, (0.5, 1.0), (False, True), cpu)
    parts = [probabilities(model, images, data, (r,), (f,), cpu) for r in (0.5, 1.0) for f in (False, True)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(0))
    torch.testing.assert_close(whole.sum(1), torch.ones(1, 96, 96))
