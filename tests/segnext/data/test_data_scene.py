"""Promises of the generated scene: exact, repeatable labels, and cues that are always there to be seen."""

import dataclasses
import hashlib

import numpy as np
import pytest
import scipy.ndimage

from segnext.data import open_dataset
from segnext.data.generated import scene as diagnostic

TRAIN, VAL = (open_dataset("diagnostic/scene", split) for split in ("train", "val"))
SHAPES = [diagnostic.arrange(np.random.default_rng(seed)) for seed in range(150)]


def test_a_scene_has_the_promised_form():
    for source, split, count in ((TRAIN, "train", 2000), (VAL, "val", 200)):
        assert len(source) == count
        assert source.name(12) == f"{split}/00012"
        image, label = source.load(count - 1)
        assert (image.shape, image.dtype) == ((96, 96, 3), np.uint8)
        assert (label.shape, label.dtype) == ((96, 96), np.uint8)
        assert label.max() < len(source.classes) == 7


def test_images_beyond_the_split_do_not_exist():
    for index in (-1, 200):
        with pytest.raises(IndexError, match="there are 200"):
            VAL.load(index)


def test_an_image_is_the_same_whenever_it_is_asked_for():
    first = TRAIN.load(7)
    for index in (3, 8):
        TRAIN.load(index)
    again = open_dataset("diagnostic/scene", "train").load(7)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_images_differ_within_and_between_splits():
    digests = {source.load(index)[0].tobytes() for source in (TRAIN, VAL) for index in range(40)}
    assert len(digests) == 80


def test_the_version_names_these_very_labels():
    """A change here is a change of the dataset: raise `diagnostic.VERSION`."""
    labels = b"".join(source.load(index)[1].tobytes() for source in (TRAIN, VAL) for index in range(10))
    assert (diagnostic.VERSION, hashlib.sha256(labels).hexdigest()[:12]) == ("1", "6a0b8656ff7b")


def test_fingerprints_differ_between_splits_only():
    assert TRAIN.fingerprint() == open_dataset("diagnostic/scene", "train").fingerprint() != VAL.fingerprint()


def test_every_image_has_two_strips_of_either_mark_and_one_kind_of_box():
    boxes = {diagnostic.CYAN_BOX, diagnostic.ORANGE_BOX}
    for index in range(100):
        present = set(np.unique(VAL.load(index)[1]).tolist())
        assert present - boxes == set(range(7)) - boxes
        assert len(present & boxes) == 1
    for shapes in SHAPES:
        marks = [shape.label for shape in shapes if shape.material in (diagnostic.RED, diagnostic.GREEN)]
        assert sorted(marks) == [diagnostic.RED_STRIP] * 2 + [diagnostic.GREEN_STRIP] * 2


def test_every_class_fills_a_fair_share():
    counts = sum(np.bincount(TRAIN.load(index)[1].ravel(), minlength=7) for index in range(300))
    shares = counts / counts.sum()
    assert 0.55 < shares[0] < 0.75
    assert shares[1:].min() > 0.025
    assert shares[1:].max() < 0.12


def test_labels_follow_from_what_can_be_seen():
    """Each shape's class, decided anew from size, the mark on the strip, and the keys' colour."""
    strip_of = {diagnostic.RED: diagnostic.RED_STRIP, diagnostic.GREEN: diagnostic.GREEN_STRIP}
    box_of = {diagnostic.CYAN: diagnostic.CYAN_BOX, diagnostic.ORANGE: diagnostic.ORANGE_BOX}
    for shapes in SHAPES:
        (key,) = {shape.material for shape in shapes if shape.material in box_of}
        marks = [shape for shape in shapes if shape.material in strip_of]
        for shape in shapes:
            if shape.material == diagnostic.DISC:
                small = shape.box[2] - shape.box[0] < 17
                assert shape.label == (diagnostic.SMALL_DISC if small else diagnostic.LARGE_DISC)
            elif shape.material == diagnostic.STRIP:
                (mark,) = (mark for mark in marks if contains(shape.box, mark.box))
                assert shape.label == strip_of[mark.material]
            elif shape.material in strip_of:
                assert shape.label == strip_of[shape.material]
            else:
                assert shape.label == box_of[key]


def test_every_labelled_pixel_knows_its_distance_to_what_decides_it():
    """Held against SciPy's distance transform, object by object."""
    for index in range(5):
        random = np.random.default_rng(index)
        shapes = diagnostic.arrange(np.random.default_rng(index))
        distance = diagnostic.scene(random).distance
        label, owner = np.zeros((2, 96, 96), np.uint8)
        for number, shape in enumerate(shapes, start=1):
            shape.paint(label, np.empty_like(label))
            dataclasses.replace(shape, label=number).paint(owner, np.empty_like(label))
        assert ((distance == 255) == (label == 0)).all()
        keys = {diagnostic.CYAN, diagnostic.ORANGE}
        for number, shape in enumerate(shapes, start=1):
            if shape.material in (diagnostic.STRIP, diagnostic.BOX):
                cue = np.ones((96, 96), bool)
                for other in shapes:
                    own_mark = other.material in (diagnostic.RED, diagnostic.GREEN) and contains(shape.box, other.box)
                    if other.material in keys if shape.material == diagnostic.BOX else own_mark:
                        top, left, bottom, right = other.box
                        cue[top:bottom, left:right] = False
                exact = scipy.ndimage.distance_transform_edt(cue)
                np.testing.assert_array_equal(distance[owner == number], np.rint(exact)[owner == number])
            elif shape.material != diagnostic.DISC:
                assert (distance[owner == number] == 0).all()


def contains(outer, inner):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def test_marks_and_keys_are_never_covered():
    for shapes in SHAPES:
        label, material = np.zeros((2, 96, 96), np.uint8)
        for shape in shapes:
            shape.paint(label, material)
        for shape in shapes:
            if shape.material in (diagnostic.RED, diagnostic.GREEN, diagnostic.CYAN, diagnostic.ORANGE):
                top, left, bottom, right = shape.box
                assert (material[top:bottom, left:right] == shape.material).all()
                assert (label[top:bottom, left:right] == shape.label).all()


def test_colour_tells_no_small_disc_from_a_large_one():
    images, labels = zip(*(TRAIN.load(index) for index in range(200)), strict=True)
    images, labels = np.stack(images), np.stack(labels)
    means = [images[labels == label].mean(axis=0) for label in (diagnostic.SMALL_DISC, diagnostic.LARGE_DISC)]
    np.testing.assert_allclose(*means, atol=3)  # grey levels


def test_strips_and_boxes_of_either_class_are_made_of_the_same():
    cues = {diagnostic.RED, diagnostic.GREEN, diagnostic.CYAN, diagnostic.ORANGE}
    made_of = {label: set() for label in range(7)}
    for shapes in SHAPES:
        for shape in shapes:
            made_of[shape.label].add(shape.material)
    assert made_of[diagnostic.RED_STRIP] - cues == made_of[diagnostic.GREEN_STRIP] - cues == {diagnostic.STRIP}
    assert made_of[diagnostic.CYAN_BOX] - cues == made_of[diagnostic.ORANGE_BOX] - cues == {diagnostic.BOX}
