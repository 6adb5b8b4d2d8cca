"""Shortcut probes of the generated data: how well the class of a pixel can be predicted without any network.

The first probe is a linear classifier (ridge regression) of k x k patches. For pixels farther from the deciding cue
than a patch reaches, it must be at chance; otherwise the data reveal their labels. The second counts the marks of the
other objects, which no such patch can do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, label

from segnext.data.generated.diagnostic import GeneratedSource
from segnext.data.source import IGNORE

SIDES = (1, 7, 15, 31)
"""Of the patches, in pixels; 1: a pixel's own colour."""

COUNTED = ("strips", "strips-independent")
REACHES = (32, 40, 60)
"""Of who counts marks, in pixels to each side: as far as the rows of Table 6 see (`studies.declare.subtasks.REACH`)."""

_PIXELS = 24  # taken per image, so that images with large objects have no more weight
_RIDGE = 10.0


def distances(side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Ranges of distances in pixels, ends excluded, at which a cue is inside a patch of `side`, and outside it."""
    return (1, side // 2 + 1), (side, IGNORE)


def probe(task: str, side: int, at: tuple[int, int], images: int = 400) -> float | None:
    """Percent of pixels that patches of `side` classify correctly, over pixels whose cue lies at distances `at`.

    `at` is a range in pixels, its end excluded. The probe is fitted on the first 3/5 of `images` training images and
    tested on the rest, both with equally many pixels per class, so chance is 100 / classes. None if there are no such
    pixels.
    """
    source, random = GeneratedSource(task, "train"), np.random.default_rng(0)
    fitted, tested = (
        _patches(source, range(start, stop), side, at, random)
        for start, stop in ((0, 3 * images // 5), (3 * images // 5, images))
    )
    if fitted is None or tested is None:
        return None
    patches, labels = fitted
    mean, classes = patches.mean(axis=0), np.arange(len(source.classes))
    wanted = np.where(labels[:, None] == classes, 1.0, 0.0)
    centred = patches - mean
    weights = np.linalg.solve(centred.T @ centred + _RIDGE * np.eye(len(mean)), centred.T @ (wanted - wanted.mean(0)))
    found = ((tested[0] - mean) @ weights).argmax(axis=1)
    return float(100 * (found == tested[1]).mean())


def counted(task: str, reach: int, images: int = 400) -> float | None:
    """Percent of pixels classified correctly by counting marks, over pixels more than `reach` pixels from their mark.

    The prediction is the class with fewer marks in the square of `reach` pixels to each side; a tie counts as half
    right. It uses the first `images` training images. None except for horizontal and vertical strips: only there is the
    distance to a mark measured along a row or a column, like the reach of the square.
    """
    if task not in COUNTED:
        return None
    source, right, pixels = GeneratedSource(task, "train"), 0.0, 0
    for index in range(images):
        picture = source.picture(index)
        more = np.zeros(picture.label.shape, np.int64)  # marks in sight of class 1 minus those of class 0
        marks, _ = label(picture.distance == 0, np.ones((3, 3)))
        for rows, columns in find_objects(marks):
            sign = 1 if picture.label[rows.start, columns.start] == 1 else -1
            more[
                max(0, rows.start - reach) : rows.stop + reach, max(0, columns.start - reach) : columns.stop + reach
            ] += sign
        far = (picture.label != IGNORE) & (picture.distance > reach)
        right += float(np.where(more == 0, 0.5, (more < 0) == (picture.label == 1))[far].sum())
        pixels += int(far.sum())
    return 100 * right / pixels


def _patches(
    source: GeneratedSource, images: range, side: int, at: tuple[int, int], random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]] | None:
    """Patches (N, side * side * 3) around labelled pixels at these distances, and their classes, balanced."""
    half, found, labels = side // 2, [], []
    for index in images:
        picture = source.picture(index)
        there = (picture.label != IGNORE) & (picture.distance >= at[0]) & (picture.distance < at[1])
        y, x = np.nonzero(there)
        chosen = random.permutation(len(y))[:_PIXELS]
        padded = np.pad(picture.image, ((half, half), (half, half), (0, 0)), mode="edge").astype(np.float64) / 255
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
        found.append(windows[y[chosen], x[chosen]].reshape(len(chosen), 3 * side**2))
        labels.append(picture.label[y[chosen], x[chosen]])
    patches, classes = np.concatenate(found), np.concatenate(labels)
    fewest = min(np.count_nonzero(classes == label) for label in range(len(source.classes)))
    kept = np.concatenate([np.nonzero(classes == label)[0][:fewest] for label in range(len(source.classes))])
    return (patches[kept], classes[kept]) if fewest else None
