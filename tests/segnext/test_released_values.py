"""Every value of `fixtures/oracle.json`, computed by the released code (datasets.md, section 6), is held here.

The pixels of `fixtures/pipeline_arrays.npz` are held in test_data_transforms.py. What was computed from images that are
not here, of ADE20K, VOC and Cityscapes, is held as far as it goes without them: sizes, and metrics from counts.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FIXTURES

from segnext import Data, Model, SegNeXt, Train
from segnext.data import open_dataset, transforms
from segnext.released_weights import released_name
from segnext.testing.evaluate import evaluate
from segnext.testing.metrics import Confusion, Score, mean
from segnext.training.segmentation import learning_rate, parameter_groups

RELEASED = json.loads((FIXTURES / "oracle.json").read_text())
METRICS = RELEASED["metrics"]
MODELS = {name: value for name, value in RELEASED["models"].items() if isinstance(value, dict)}

HELD = {
    "resize_keep_ratio__w_h_s0_s1_outw_outh_mult32w_mult32h",
    "test_pipeline",
    "label_histograms",  # as sums: image sizes and label counts
    "metrics",
    "lr_at_iteration_base_6e-5",
    "models",
}
HELD_METRICS = {
    "ade_3_images__pred_is_label_minus1_zero_clamped_rolled_7_right",
    "voc_3_images__pred_void_to_0_rolled_3_down_5_right",
    "camvid_first_10_test__pred_void_to_3_rolled_4_right",
    "toy_out_of_range_label_200_N3",
}
ADE20K = Data("ade20k", 150, (2048, 512), (512, 512))
VOC = Data("voc2012", 21, (2048, 512), (512, 512), test_multiple=1)
CITYSCAPES = Data("cityscapes", 19, (2048, 1024), (1024, 1024), test_multiple=1)


def test_no_value_is_left_out():
    assert set(RELEASED) == HELD
    assert set(METRICS) == HELD_METRICS
    described = {"T_nodecay_names_sample", "T_1d_but_decayed"}
    assert set(RELEASED["models"]) == described | {f"{size}_{classes}" for size in "TSBL" for classes in (19, 150, 171)}
    pipeline = {"ade1", "ade2", "ade3", "voc_2011_000003", "city_small", "ade1_ms_shapes", "ade1_ms_means"}
    assert set(RELEASED["test_pipeline"]) == pipeline


def test_the_values_are_those_of_the_release(shared: Path):
    assert (FIXTURES / "oracle.json").read_bytes() == (shared / "oracle" / "oracle.json").read_bytes()
    here, there = (dict(np.load(path)) for path in (FIXTURES / "pipeline_arrays.npz", shared / "oracle" / "arrays.npz"))
    np.testing.assert_array_equal(there.pop("resize_img_in"), here["photo_input_bgr"])
    assert here.keys() == there.keys()
    for key, array in here.items():
        np.testing.assert_array_equal(array, there[key], err_msg=key)


@pytest.mark.parametrize(
    ("width", "height", "long", "short", "fitted_width", "fitted_height", "multiple_width", "multiple_height"),
    RELEASED["resize_keep_ratio__w_h_s0_s1_outw_outh_mult32w_mult32h"],
)
def test_sizes(width, height, long, short, fitted_width, fitted_height, multiple_width, multiple_height):
    assert transforms.fitted_size(height, width, (long, short)) == (fitted_height, fitted_width)
    data = dataclasses.replace(ADE20K, scale=(long, short))
    assert transforms.test_size(height, width, data) == (multiple_height, multiple_width)
    assert transforms.test_size(height, width, dataclasses.replace(data, test_multiple=1)) == (
        fitted_height,
        fitted_width,
    )


@pytest.mark.parametrize(
    ("image", "data", "width", "height", "histogram"),
    [
        ("ade1", ADE20K, 683, 512, "ADE_val_00000001"),
        ("ade2", ADE20K, 500, 364, "ADE_val_00000002"),
        ("ade3", ADE20K, 400, 300, "ADE_val_00000003"),
        ("voc_2011_000003", VOC, 500, 338, "voc_2011_000003"),
        ("city_small", CITYSCAPES, 512, 256, None),
    ],
)
def test_tested_sizes_of_real_images(image: str, data: Data, width: int, height: int, histogram: str | None):
    if histogram:
        assert sum(RELEASED["label_histograms"][histogram].values()) == height * width
    assert [3, *transforms.test_size(height, width, data)] == RELEASED["test_pipeline"][image]["shape"]


def test_the_twelve_passes_of_multi_scale_testing():
    seen = []

    class Recorder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend(x.split(1))
            return torch.zeros(len(x), 2, 4, 4)

    class One:
        classes = ("a",)

        def __len__(self) -> int:
            return 1

        def load(self, index: int):
            noise = np.random.default_rng(0).integers(0, 256, (512, 683, 3), np.uint8)
            return noise, np.zeros((512, 683), np.uint8)

    evaluate(Recorder(), One(), dataclasses.replace(ADE20K, classes=2), multi_scale=True)
    assert [list(x.shape[1:]) for x in seen] == RELEASED["test_pipeline"]["ade1_ms_shapes"]
    for straight, flipped in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(flipped, straight.flip(3))  # so their means agree, as the release's twelve do
    means = RELEASED["test_pipeline"]["ade1_ms_means"]
    assert means[::2] == pytest.approx(means[1::2])


def held(score: Score, released: dict) -> None:
    for ours, theirs in ((score.iou, released["IoU"]), (score.accuracy, released["Acc"])):
        assert [value is None for value in ours] == [value is None for value in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one is None or one / 100 == pytest.approx(other, rel=1e-6)
    assert score.miou / 100 == pytest.approx(released["mIoU"], rel=1e-6)
    assert score.mean_accuracy / 100 == pytest.approx(released["mAcc"], rel=1e-6)
    assert score.pixel_accuracy / 100 == pytest.approx(released["aAcc"], rel=1e-6)


def test_metrics_of_a_label_out_of_range():
    released = METRICS["toy_out_of_range_label_200_N3"]
    confusion = Confusion(3)
    confusion.add(torch.tensor(released["pred"]), torch.tensor(released["label"], dtype=torch.uint8))
    held(confusion.score(), released)


def test_metrics_of_ten_real_labels(shared: Path):
    source = open_dataset("camvid", "test", shared / "data" / "camvid")
    confusion = Confusion(11)
    for index in range(10):
        label = source.load(index)[1]
        guess = np.roll(np.where(label == 255, 3, label), 4, axis=1)
        confusion.add(torch.from_numpy(guess), torch.from_numpy(label))
    held(confusion.score(), METRICS["camvid_first_10_test__pred_void_to_3_rolled_4_right"])


def test_metrics_of_150_classes_from_their_counts():
    """The labels' histograms and the released IoU and Acc give hits, labelled and predicted pixels of each class."""
    released = METRICS["ade_3_images__pred_is_label_minus1_zero_clamped_rolled_7_right"]
    labelled = np.zeros(150, dtype=np.int64)
    for image in ("ADE_val_00000001", "ADE_val_00000002", "ADE_val_00000003"):
        for value, pixels in RELEASED["label_histograms"][image].items():
            if int(value) < 150:
                labelled[int(value)] += pixels
    iou, accuracy = (np.array(released[key], dtype=float) for key in ("IoU", "Acc"))
    present = ~np.isnan(iou)
    assert (present == (labelled > 0)).all()
    exact = np.where(present, labelled * np.nan_to_num(accuracy), 0)
    hits = exact.round().astype(np.int64)
    np.testing.assert_allclose(exact, hits, atol=0.02)  # float32 counts, yet whole numbers of pixels
    unions = np.where(present, hits / np.where(present, iou, 1), 0)
    predicted = unions.round().astype(np.int64) - labelled + hits
    np.testing.assert_allclose(unions, unions.round(), atol=0.06)
    assert predicted.sum() == labelled.sum()
    # Any arrays with these counts will do: the wrong labels in order against the wrong predictions, moved along until
    # none is right by chance.
    classes = np.arange(150)
    wrong_labels, wrong_guesses = classes.repeat(labelled - hits), classes.repeat(predicted - hits)
    wrong_guesses = np.roll(wrong_guesses, len(wrong_guesses) // 2)
    assert (wrong_labels != wrong_guesses).all()
    confusion = Confusion(150)
    right = torch.from_numpy(classes.repeat(hits))
    confusion.add(right, right)
    confusion.add(torch.from_numpy(wrong_guesses), torch.from_numpy(wrong_labels))
    held(confusion.score(), released)


@pytest.mark.parametrize("case", sorted(HELD_METRICS))
def test_a_mean_is_over_the_classes_that_are_there(case: str):
    released = METRICS[case]
    assert mean(released["IoU"]) == pytest.approx(released["mIoU"], rel=1e-6)
    assert mean(released["Acc"]) == pytest.approx(released["mAcc"], rel=1e-6)


@pytest.mark.parametrize("iterations", [160_000, 80_000])
def test_learning_rates(iterations: int):
    rates = RELEASED["lr_at_iteration_base_6e-5"][str(iterations)]
    assert len(rates) == 13
    for iteration, rate in rates.items():
        assert math.isclose(learning_rate(Train(iterations), int(iteration)), rate, rel_tol=1e-9), iteration


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_optimiser_groups(name: str):
    size, classes = name.split("_")
    with torch.device("meta"):
        model = SegNeXt(Model(size), int(classes))
    count = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    released = MODELS[name]
    assert count == {"encoder": released["backbone"], "decoder": released["head"]}
    assert sum(count.values()) == released["total"]
    if "groups_numel" in released:
        groups = {f"lr={g['lr']:.1e},wd={g['weight_decay']}": g["params"] for g in parameter_groups(model, Train(1))}
        assert {key: sum(p.numel() for p in held) for key, held in groups.items()} == released["groups_numel"]
        assert {key: len(held) for key, held in groups.items()} == released["groups_tensors"]


def test_which_parameters_are_not_decayed():
    with torch.device("meta"):
        model = SegNeXt(Model("T"), 150)
    decays = {id(p): group["weight_decay"] for group in parameter_groups(model, Train(1)) for p in group["params"]}
    named = {released_name(name): parameter for name, parameter in model.named_parameters()}
    spared = {name for name, parameter in named.items() if decays[id(parameter)] == 0}
    assert set(RELEASED["models"]["T_nodecay_names_sample"]) <= spared
    vectors = {name for name, p in named.items() if p.dim() == 1 and not name.endswith("bias")}
    assert vectors - spared == set(RELEASED["models"]["T_1d_but_decayed"])
