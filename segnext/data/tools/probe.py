"""Shortcut probes of the generated data: what the pixels around a pixel tell of its class, without any network.

A linear classifier (ridge regression) of k x k patches: farther from the deciding cue than a patch reaches it has to be
at chance, or the data give their labels away. And a count of the other objects' marks, which no such patch can make.
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

_PIXELS = 24  # of an image that are taken, so that images with large objects do not count for more
_RIDGE = 10.0


def distances(side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a cue lies within a patch of `side` around a pixel, and where beyond it: pixels, each second excluded."""
    return (1, side // 2 + 1), (side, IGNORE)


def probe(task: str, side: int, at: tuple[int, int], images: int = 400) -> float | None:
    """Percent of pixels told right by patches of `side`, over those whose cue lies at these distances in pixels.

    The second distance is excluded. Fitted on the first 3/5 of so many training images, tested on the others, both
    with equally many pixels of every class: chance is 100 / classes. None where there are no such pixels.
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
    """Percent of pixels told right by counting marks, over those whose own mark lies more than `reach` pixels away.

    The class is guessed of which fewer marks are seen in the square that reaches so far; a tie is half right. Without
    any network, on the first training images. None but of horizontal and vertical strips, where the distance to a mark
    is one along a row or a column, as the square's reach is.
    """
    if task not in COUNTED:
        return None
    source, right, pixels = GeneratedSource(task, "train"), 0.0, 0
    for index in range(images):
        picture = source.picture(index)
        more = np.zeros(picture.label.shape, np.int64)  # seen marks of class 1 than of class 0
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
    """Patches (N, side * side * 3) around labelled pixels at these distances, and their classes, as many of each."""
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
