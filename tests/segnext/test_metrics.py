"""The measures are exact, agree with independent implementations, and do not depend on how images arrive."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchmetrics.classification import MulticlassJaccardIndex

from segnext.testing.metrics import Boundary, Confusion, near_contour

seeds = st.integers(0, 10**6)


def random_pair(seed: int, classes: int, used: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and labels of two images with patches of `used` of the classes, the first ones; a tenth ignored."""
    random = np.random.default_rng(seed)
    maps = random.integers(0, used or classes, (2, 2, 7, 9)).repeat(2, axis=2).repeat(2, axis=3)[..., :13, :17]
    noisy = random.random(maps.shape) < 0.2
    maps[noisy] = random.integers(0, used or classes, noisy.sum())
    maps[1][random.random(maps[1].shape) < 0.1] = 255
    prediction, label = torch.from_numpy(maps.astype(np.uint8))
    return prediction, label


def counted(prediction: torch.Tensor, label: torch.Tensor, classes: int) -> Confusion:
    confusion = Confusion(classes)
    confusion.add(prediction, label)
    return confusion


@settings(max_examples=30, deadline=None)
@given(seed=seeds, classes=st.integers(2, 30), used=st.integers(1, 12))
def test_iou_agrees_with_torchmetrics(seed: int, classes: int, used: int):
    """Whose per-class values are 0, not absent, for a class that is nowhere; its mean leaves such classes out."""
    prediction, label = random_pair(seed, classes, min(used, classes))
    score = counted(prediction, label, classes).score()
    theirs = {
        average: MulticlassJaccardIndex(classes, ignore_index=255, average=average)(prediction, label.long())
        for average in ("macro", "none")
    }
    assert score.miou == pytest.approx(100 * theirs["macro"].item(), rel=1e-6)
    assert [value or 0.0 for value in score.iou] == pytest.approx((100 * theirs["none"]).tolist(), rel=1e-6)


def ade20k_scorer(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """The areas of the ADE20K benchmark (CSAILVision/sceneparsing, intersectionAndUnion): 0 is unlabelled, 1 the first.

    Stated anew from its definition: predictions count where there is a label, and areas are histograms.
    """
    seen = np.where(label > 0, prediction, 0)
    agreed = np.where(seen == label, seen, 0)
    areas = [np.histogram(maps, bins=classes, range=(1, classes))[0] for maps in (agreed, seen, label)]
    return np.stack([areas[0], areas[1] + areas[2] - areas[0]])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, classes=st.integers(2, 20), used=st.integers(1, 12))
def test_iou_agrees_with_the_ade20k_scorer(seed: int, classes: int, used: int):
    prediction, label = random_pair(seed, classes, min(used, classes))
    areas = sum(  # image by image, as the scorer goes
        ade20k_scorer(one.numpy().astype(int) + 1, np.where(other == 255, 0, other.numpy().astype(int) + 1), classes)
        for one, other in zip(prediction, label, strict=True)
    )
    theirs = 100 * areas[0] / (areas[1] + np.spacing(1))
    score = counted(prediction, label, classes).score()
    assert [value or 0.0 for value in score.iou] == pytest.approx(theirs.tolist())
    if None not in score.iou:  # its mean takes an absent class for 0; in its own split no class is absent
        assert score.miou == pytest.approx(theirs.mean())


def cityscapes_scorer(matrix: np.ndarray, scored: list[int]) -> list[float]:
    """IoU from cityscapesScripts' matrix of all labels (label, prediction): its getIouScoreForLabel, stated anew.

    A false positive counts only where the label is scored; a miss counts whatever was predicted; none of either: NaN.
    """
    found = []
    for label in scored:
        hits = matrix[label, label]
        misses = matrix[label].sum() - hits
        false = sum(matrix[other, label] for other in scored if other != label)
        found.append(hits / (hits + misses + false) if hits + misses + false else float("nan"))
    return found


@settings(max_examples=30, deadline=None)
@given(seed=seeds, used=st.integers(1, 19))
def test_iou_agrees_with_the_cityscapes_scorer(seed: int, used: int):
    ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33])
    prediction, label = random_pair(seed, 19, used)
    label_ids = np.where(label == 255, 0, ids[label.clamp(max=18)])
    matrix = np.zeros((34, 34), dtype=np.int64)
    np.add.at(matrix, (label_ids, ids[prediction]), 1)
    theirs = cityscapes_scorer(matrix, ids.tolist())
    score = counted(prediction, label, 19).score()
    assert [np.nan if value is None else value / 100 for value in score.iou] == pytest.approx(theirs, nan_ok=True)
    assert score.miou == pytest.approx(100 * np.nanmean(theirs))


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_order_and_grouping_of_images_never_matters(seed: int):
    prediction, label = random_pair(seed, 5)
    together, apart, boundary, boundary_apart = Confusion(5), Confusion(5), Boundary(5), Boundary(5)
    together.add(prediction, label)
    boundary.add(prediction, label)
    for index in (1, 0):
        apart.add(prediction[index], label[index])
        boundary_apart.add(prediction[index : index + 1], label[index : index + 1])
    assert together.score(boundary) == apart.score(boundary_apart)


def test_a_class_that_is_nowhere_does_not_enter_the_mean():
    score = counted(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 3).score()
    assert score.iou == [50.0, pytest.approx(200 / 3), None]
    assert score.miou == pytest.approx((50 + 200 / 3) / 2)
    assert score.pixel_accuracy == 75.0
    assert score.accuracy == [100.0, pytest.approx(200 / 3), None]
    assert score.mean_accuracy == pytest.approx((100 + 200 / 3) / 2)


def test_a_class_that_is_only_predicted_has_an_iou_of_zero_and_no_accuracy():
    score = counted(torch.tensor([0, 1]), torch.tensor([0, 0]), 2).score()
    assert score.iou == [50.0, 0.0]
    assert score.accuracy == [50.0, None]


def test_a_label_out_of_range_is_a_false_positive_of_whatever_was_predicted():
    """As measured on the released code (datasets.md, section 3)."""
    score = counted(torch.tensor([0, 0, 1]), torch.tensor([0, 7, 1]), 2).score()
    assert score.iou == [50.0, 100.0]
    assert score.pixel_accuracy == 100.0
    assert score.confusion == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("classes", [254, 255, 256, 300])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_as_many_classes_as_bytes_have_values_are_counted(classes: int, dtype: torch.dtype):
    prediction, label = random_pair(1, min(classes, 255))
    score = counted(prediction, label.to(dtype), classes).score()
    expected = np.zeros((classes + 1, classes), dtype=int)
    kept = (label != 255).numpy()
    np.add.at(expected, (label.numpy()[kept], prediction.numpy()[kept]), 1)
    np.testing.assert_array_equal(score.confusion, expected)
    boundary = Boundary(classes)
    boundary.add(prediction, label.to(dtype))
    few = Boundary(255)
    few.add(prediction, label)
    assert boundary.counts.sum(1).tolist() == few.counts.sum(1).tolist()


def test_a_label_below_zero_is_out_of_range():
    score = counted(torch.tensor([0, 0, 1]), torch.tensor([0, -1, 1]), 2).score()
    assert score.confusion == [[1, 0], [0, 1], [1, 0]]
    boundaries = Boundary(2), Boundary(2)
    for boundary, wrong in zip(boundaries, (-1, 7), strict=True):
        boundary.add(torch.tensor([[[0, 0, 1]]]), torch.tensor([[[0, wrong, 1]]]))
    assert torch.equal(boundaries[0].counts, boundaries[1].counts)


def test_nothing_to_score_is_not_a_zero():
    boundary = Boundary(2)
    boundary.add(torch.tensor([[[0]]]), torch.tensor([[[255]]]))
    score = counted(torch.tensor([0]), torch.tensor([255]), 2).score(boundary)
    assert score.miou is score.pixel_accuracy is score.mean_accuracy is score.boundary_miou is None
    assert score.iou == score.accuracy == score.boundary_iou == [None, None]


@pytest.mark.parametrize("kind", [Confusion, Boundary])
@pytest.mark.parametrize("wrong", [3, -1, 255])
def test_a_prediction_out_of_range_is_refused_and_counts_nothing(kind: type, wrong: int):
    counts = kind(3)
    with pytest.raises(ValueError, match=f"a prediction of {wrong}, where the classes are 0 to 2"):
        counts.add(torch.tensor([[[0, wrong]]]), torch.tensor([[[0, 1]]]))
    with pytest.raises(ValueError, match="for a label of"):
        counts.add(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 3, dtype=torch.uint8))
    assert counts.counts.sum() == 0


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_the_confusion_matrix_is_json_and_holds_every_labelled_pixel(seed: int):
    prediction, label = random_pair(seed, 4)
    score = counted(prediction, label, 4).score()
    again = json.loads(json.dumps(dataclasses.asdict(score), allow_nan=False))
    assert again == dataclasses.asdict(score)
    matrix = np.array(again["confusion"])
    expected = np.zeros((5, 4), dtype=int)
    kept = (label != 255).numpy()
    np.add.at(expected, (label.numpy()[kept], prediction.numpy()[kept]), 1)
    np.testing.assert_array_equal(matrix, expected)


def reference_boundary(mask: np.ndarray, ratio: float) -> np.ndarray:
    """The authors' mask_to_boundary stated anew: the mask less its erosion by 3x3, d times, with nothing outside."""
    distance = max(1, round(ratio * float(np.hypot(*mask.shape))))
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
    return mask & ~eroded


@given(seed=seeds, classes=st.integers(1, 6), ratio=st.sampled_from([0.0, 0.02, 0.1, 0.2, 0.5]))
@settings(max_examples=60, deadline=None)
def test_boundary_iou_is_that_of_each_classs_mask_eroded(seed: int, classes: int, ratio: float):
    prediction, label = random_pair(seed, classes)
    both, either = np.zeros(classes, dtype=int), np.zeros(classes, dtype=int)
    for guess, truth in zip(prediction.numpy(), label.numpy(), strict=True):
        for index in range(classes):
            bands = [reference_boundary((maps == index) & (truth != 255), ratio) for maps in (guess, truth)]
            both[index] += (bands[0] & bands[1]).sum()
            either[index] += (bands[0] | bands[1]).sum()
    boundary = Boundary(classes, ratio)
    boundary.add(prediction, label)
    expected = [100 * int(a) / int(b) if b else None for a, b in zip(both, either, strict=True)]
    assert boundary.iou() == expected


@given(
    seed=seeds,
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    distance=st.integers(1, 12),
    patch=st.integers(1, 12),
)
@settings(max_examples=100, deadline=None)
def test_near_a_contour_means_another_value_or_the_border_within_the_distance(
    seed: int, height: int, width: int, distance: int, patch: int
):
    maps = np.random.default_rng(seed).integers(0, 3, (2, height, width)).repeat(patch, axis=1).repeat(patch, axis=2)
    maps = maps[:, :height, :width].astype(np.uint8)
    size = (1, 2 * distance + 1, 2 * distance + 1)
    least = ndimage.minimum_filter(maps, size, mode="constant", cval=0)
    most = ndimage.maximum_filter(maps, size, mode="constant", cval=255)
    np.testing.assert_array_equal(near_contour(torch.from_numpy(maps), distance).numpy(), least != most)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_a_right_prediction_scores_100_whatever_it_says_where_nothing_is_labelled(seed: int):
    guess, label = random_pair(seed, 4)
    assume((label != 255).any())
    boundary = Boundary(4)
    boundary.add(torch.where(label == 255, guess, label), label)
    assert set(boundary.iou()) <= {100.0, None}


def test_boundary_iou_sees_a_contour_that_iou_hardly_does():
    """A square of 60 in an image of 100, found 2 pixels to the right; d = round(0.02 * 141.4) = 3."""
    label = torch.zeros(1, 100, 100, dtype=torch.uint8)
    label[:, 20:80, 20:80] = 1
    prediction = label.roll(2, dims=2)
    confusion, boundary = counted(prediction, label, 2), Boundary(2)
    boundary.add(prediction, label)
    assert confusion.score().iou[1] == pytest.approx(100 * 58 / 62)
    band = 60 * 60 - 54 * 54
    shared = 2 * 3 * 58 + 2 * 54 * 1  # rows above and below; of each side's 3 columns 1 lies in both
    assert boundary.iou()[1] == pytest.approx(100 * shared / (2 * band - shared))
