"""Promises of the generated sub-tasks: exact labels and distances, determinism, balance, and no shortcut to a class."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from segnext.data import open_dataset
from segnext.data.__main__ import main
from segnext.data.generated import tasks as declared
from segnext.data.generated.diagnostic import FRAMES, GeneratedSource, tasks
from segnext.data.generated.tasks import NOTHING, TASKS, Chance
from segnext.data.source import IGNORE
from segnext.data.tools.probe import REACHES, counted, probe

MARKED = (
    "strips",
    "strips-independent",
    "strips-diagonal",
    "strips-blobs",
    "key",
)  # tasks whose cue is a mark in a colour of its own
HALVES = ("strips", "strips-diagonal", "strips-blobs", "gate", "gate-additive", "mix", "mix-single")
RED, GREEN = declared._CUE

DIGESTS = {
    "strips": "096ae9a6",
    "strips-independent": "790817bc",
    "strips-diagonal": "8adaeeef",
    "strips-blobs": "fc8b344f",
    "scale": "7faa2c37",
    "key": "c4c55e69",
    "gate": "b6d4afbf",
    "gate-additive": "fe4c8c80",
    "mix": "0ca53cb9",
    "mix-single": "77d32007",
    "fine": "e215630e",
}


def pictures(task: str, count: int = 12, split: str = "train"):
    source = GeneratedSource(task, split)
    return [source.picture(index) for index in range(count)]


@pytest.mark.parametrize("task", [name for name in tasks() if name != "scene"])
def test_a_picture_has_the_promised_form(task: str):
    source = open_dataset(f"diagnostic/{task}", "val")
    assert len(source) == FRAMES["val"]
    picture = source.picture(3)
    assert (picture.image.shape, picture.image.dtype) == ((96, 96, 3), np.uint8)
    assert picture.label.shape == picture.distance.shape == (96, 96)
    assert picture.label.dtype == picture.distance.dtype == np.uint8
    background = 0 if task == "fine" else IGNORE
    assert ((picture.label == background) == (picture.distance == NOTHING)).all()
    present = set(np.unique(picture.label).tolist()) - {IGNORE}
    assert present <= set(range(len(source.classes)))
    image, label = source.load(3)
    np.testing.assert_array_equal(image, picture.image)
    np.testing.assert_array_equal(label, picture.label)


@settings(max_examples=20, deadline=None)
@given(task=st.sampled_from(sorted(TASKS)), split=st.sampled_from(sorted(FRAMES)), index=st.integers(0, 199))
def test_an_image_is_the_same_whenever_it_is_asked_for(task: str, split: str, index: int):
    first = GeneratedSource(task, split)
    first.load((index + 1) % 200)
    again = GeneratedSource(task, split).picture(index)
    np.testing.assert_array_equal(first.picture(index).image, again.image)
    np.testing.assert_array_equal(first.picture(index).label, again.label)


def test_images_differ_within_and_between_splits():
    digests = {GeneratedSource("strips", split).load(index)[0].tobytes() for split in FRAMES for index in range(10)}
    assert len(digests) == 10 * len(FRAMES)


@pytest.mark.parametrize("task", ["strips", "strips-independent", "strips-diagonal", "strips-blobs"])
def test_a_marked_object_has_the_class_and_the_distance_of_its_mark(task: str):
    """Labels and distances decided anew from the picture alone: from pixels at distance 0, by connected objects."""
    for picture in pictures(task):
        marks, count = scipy.ndimage.label(picture.distance == 0, np.ones((3, 3)))
        assert count == (4 if task == "strips-blobs" else 8)
        for number in range(1, count + 1):
            (label,) = np.unique(picture.label[marks == number])
            red, green, _ = picture.image[marks == number].mean(axis=0)
            assert label == (green > red)
        to_each = [scipy.ndimage.distance_transform_edt(marks != number) for number in range(1, count + 1)]
        classes = [picture.label[marks == number][0] for number in range(1, count + 1)]
        seen = picture.label != IGNORE
        fits = np.zeros((96, 96), bool)  # the stored distance is that to a mark of the pixel's own class
        for away, label in zip(to_each, classes, strict=True):
            fits |= (np.rint(away) == picture.distance) & (picture.label == label)
        assert fits[seen].all()


def test_the_key_decides_every_disc_however_far():
    for picture in pictures("key"):
        (label,) = set(np.unique(picture.label).tolist()) - {IGNORE}
        red, green, _ = picture.image[picture.distance == 0].mean(axis=0)
        assert label == (green > red)
        away = scipy.ndimage.distance_transform_edt(picture.distance != 0)
        seen = picture.label != IGNORE
        np.testing.assert_array_equal(picture.distance[seen], np.rint(away)[seen])


@pytest.mark.parametrize(("task", "expected"), [("gate", np.logical_xor), ("gate-additive", np.logical_or)])
def test_shade_and_ring_decide_a_disc(task: str, expected):
    """Read from the picture: how bright a disc is, and how red the ring around it."""
    for picture in pictures(task):
        bodies, count = scipy.ndimage.label(picture.label != IGNORE)
        assert count == (8 if task == "gate" else 6)
        for number in range(1, count + 1):
            body = bodies == number
            ring = scipy.ndimage.binary_dilation(body, iterations=2) & ~scipy.ndimage.binary_dilation(body)
            colour = picture.image.astype(float)
            lit = colour[body].mean() > colour[ring].mean()
            warm = (colour[ring, 0] - colour[ring, 2]).mean() > (colour[body, 0] - colour[body, 2]).mean()
            (label,) = np.unique(picture.label[body])
            assert label == expected(lit, warm)


@pytest.mark.parametrize("task", ["mix", "mix-single"])
def test_the_run_of_stripes_decides_a_disc(task: str):
    """Which way a channel's stripes run: along them it hardly varies."""
    for picture in pictures(task):
        bodies, count = scipy.ndimage.label(picture.label != IGNORE)
        assert count == 8
        for window, number in zip(scipy.ndimage.find_objects(bodies), range(1, count + 1), strict=True):
            (label,) = np.unique(picture.label[bodies == number])
            middle = picture.image[window][4:-4, 4:-4].astype(float)
            down, across = (middle.mean(axis=axis).std(axis=0) for axis in (1, 0))
            vertical = across > down  # by channel: the means of columns differ
            assert label == (vertical[0] == vertical[2] if task == "mix" else vertical[0])


def test_the_side_of_a_square_is_its_class_and_what_it_takes_to_see_it():
    for picture in pictures("scale"):
        bodies, count = scipy.ndimage.label(picture.label != IGNORE)
        for window, number in zip(scipy.ndimage.find_objects(bodies), range(1, count + 1), strict=True):
            (label,) = np.unique(picture.label[window][bodies[window] == number])
            side = window[0].stop - window[0].start
            assert (bodies[window] == number).all()
            assert side == window[1].stop - window[1].start
            assert label == (side > 10) + (side > 25)
            away = np.maximum(np.arange(side), np.arange(side)[::-1])
            np.testing.assert_array_equal(picture.distance[window], np.minimum(away[:, None], away))


@pytest.mark.parametrize("task", HALVES)
def test_either_class_is_half_of_the_objects_of_every_image(task: str):
    """Held on objects; of the pixels both classes have about as many over a few images."""
    counts = np.zeros(2)
    for picture in pictures(task, 60):
        counts += np.bincount(picture.label[picture.label != IGNORE], minlength=2)[:2]
    assert abs(counts[0] / counts.sum() - 0.5) < 0.03
    if task in MARKED:
        for picture in pictures(task):
            marks, count = scipy.ndimage.label(picture.distance == 0, np.ones((3, 3)))
            labels = [picture.label[marks == number][0] for number in range(1, count + 1)]
            assert sum(labels) == count / 2


def test_half_of_the_keys_are_of_either_colour_and_a_square_has_any_size_as_often():
    keys = [np.unique(picture.label).min() for picture in pictures("key", 300)]
    assert 0.4 < np.mean(keys) < 0.6
    areas = sum(np.bincount(p.label[p.label != IGNORE], minlength=3) for p in pictures("scale", 60))
    assert areas.min() > 0.8 * areas.max()


@pytest.mark.parametrize("task", MARKED)
def test_a_variant_differs_from_its_task_in_the_cue_or_in_the_objects_alone(task: str):
    for index in range(4):
        seen, removed, local = (
            GeneratedSource(f"{task}{end}", "train").picture(index) for end in ("", "-no-cue", "-local")
        )
        for other in (removed, local):
            np.testing.assert_array_equal(seen.label, other.label)
            np.testing.assert_array_equal(seen.distance, other.distance)
        assert not (seen.image != removed.image).any(axis=2)[seen.distance != 0].any()
        assert (seen.image != removed.image).any(axis=2)[seen.distance == 0].mean() > 0.9
        assert not (seen.image != local.image).any(axis=2)[seen.distance == NOTHING].any()


def test_without_its_cue_the_colour_of_a_mark_tells_nothing():
    for picture in pictures("strips-no-cue", 4):
        colours = [picture.image[(picture.distance == 0) & (picture.label == label)].mean(axis=0) for label in (0, 1)]
        np.testing.assert_allclose(*colours, atol=12)  # grey levels: uneven light


def test_test_images_are_drawn_from_sizes_that_training_never_has():
    trained, held_out = (Chance(np.random.default_rng(0), held).sizes(48, 79, 500) for held in (False, True))
    assert not set(trained.tolist()) & set(held_out.tolist())
    assert set(trained.tolist()) | set(held_out.tolist()) == set(range(48, 80))
    noise = [np.mean([_noise(picture) for picture in pictures("key", 6, split)]) for split in ("train", "test")]
    assert noise[1] > 1.2 * noise[0]


def _noise(picture) -> float:
    ground = picture.image.astype(float)[picture.label == IGNORE]
    return float(np.abs(np.diff(ground, axis=0)).mean())


@pytest.mark.parametrize("task", ["strips", "strips-diagonal", "strips-blobs", "key"])
@pytest.mark.parametrize("side", [1, 7, 15])
def test_no_patch_that_misses_the_cue_tells_the_class(task: str, side: int):
    """Shortcut probes: what is fitted on patches around pixels farther from the cue than they reach is at chance."""
    told = probe(task, side, (side, 255), images=250)
    assert told is not None
    assert abs(told - 50) < 6


def test_marks_tell_of_each_other_but_where_every_strip_has_a_colour_of_its_own():
    for reach in REACHES:
        assert (counted("strips", reach, images=100) or 0) > 56
        assert abs((counted("strips-independent", reach, images=100) or 0) - 50) < 5
    assert counted("key", REACHES[0], images=10) is None


@pytest.mark.parametrize("task", ["strips-no-cue", "key-no-cue"])
def test_no_patch_tells_a_class_without_its_cue(task: str):
    told = probe(task, 15, (1, 255), images=250)
    assert told is not None
    assert abs(told - 50) < 6


def test_the_probe_finds_a_class_that_is_there():
    assert (probe("strips-local", 1, (1, 255), images=250) or 0) > 90
    assert (probe("strips-blobs", 15, (1, 4), images=250) or 0) > 80
    assert probe("mix", 7, (50, 255), images=10) is None


def test_the_probe_is_a_command(capsys):
    assert main(["probe", "diagnostic/strips", "--images", "40"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "diagnostic/strips: percent that k x k patches get right; chance is 50"
    assert [line.split()[0] for line in said[2:]] == ["1", "7", "15", "31"]
    assert main(["probe", "camvid"]) == 2
    assert "only generated datasets" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_the_version_names_these_very_labels_and_distances(task: str):
    """A change here is a change of the data set: raise the version in `diagnostic_tasks.TASKS`."""
    content = hashlib.sha256()
    for split in ("train", "test"):
        picture = GeneratedSource(task, split).picture(1)
        content.update(picture.label.tobytes() + picture.distance.tobytes())
    assert (tasks()[task], content.hexdigest()[:8]) == ("1", DIGESTS[task])


@pytest.mark.parametrize(
    ("task", "split", "version", "said"),
    [
        ("stripes", "train", None, "no diagnostic task 'stripes'; there are scene, strips"),
        ("strips", "validation", None, "'validation' is not one of its splits train, val, test"),
        ("strips", "train", "0", "this code generates version '1' of diagnostic/strips, not '0'"),
        ("scene", "test", None, "'test' is not one of its splits train, val$"),
    ],
)
def test_what_is_not_there_is_said(task: str, split: str, version: str | None, said: str):
    with pytest.raises(ValueError, match=said):
        GeneratedSource(task, split, version)
    with pytest.raises(IndexError, match="there are 200"):
        GeneratedSource("strips", "val").picture(200)
