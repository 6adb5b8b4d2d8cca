"""Generated datasets, `diagnostic/<task>`: images with exact labels, made on the fly from (task, split, index) alone.

`scene` is a mixed task. The others isolate one ability each (`segnext.data.generated.tasks`); `<task>-no-cue` is the
same task with the deciding cue painted neutral, which nothing may solve, and `<task>-local` with the class visible in
an object's own colour, which everything should: both with the layouts and the labels of the task itself.
"""

from __future__ import annotations

import numpy as np

from segnext.config import digest
from segnext.data.generated import scene
from segnext.data.generated.drawing import Picture
from segnext.data.generated.tasks import TASKS, Chance
from segnext.data.source import Pixels

FRAMES = {"train": 2000, "val": 200, "test": 200, "tuning": 2000, "tuning-val": 200}
"""Images by split. `test` draws from parameters that no other split has; `tuning` is for choosing learning rates."""

HELD_OUT = ("test",)
_SUFFIXES = {"removed": "-no-cue", "local": "-local", "seen": ""}


def tasks() -> dict[str, str]:
    """Every task, its variants among them, and the version of its generator."""
    versions = {"scene": scene.VERSION}
    for name, task in TASKS.items():
        versions |= {name + _SUFFIXES[cue]: task.version for cue in task.cues}
    return versions


class GeneratedSource:
    """One split of a generated dataset: the same images wherever and whenever they are asked for.

    Raises `ValueError` for a task, split or generator version that this code does not have.
    """

    def __init__(self, task: str, split: str, version: str | None = None) -> None:
        known = tasks()
        if task not in known:
            raise ValueError(f"Data.dataset: there is no diagnostic task {task!r}; there are {', '.join(known)}")
        splits = ("train", "val") if task == "scene" else tuple(FRAMES)
        if split not in splits:
            raise ValueError(f"diagnostic/{task}: {split!r} is not one of its splits {', '.join(splits)}")
        if version not in (None, known[task]):
            raise ValueError(
                f"Data.generator: this code generates version {known[task]!r} of diagnostic/{task}, not {version!r}"
            )
        self._cue = next(cue for cue, suffix in _SUFFIXES.items() if task.endswith(suffix))
        self._task, self._split = task.removesuffix(_SUFFIXES[self._cue]), split
        self.classes = scene.CLASSES if task == "scene" else TASKS[self._task].classes
        self.labelled = True
        self._identity = f"diagnostic/{self._task} {known[task]} {split}"  # a variant has its task's layouts
        self._fingerprinted = f"diagnostic/{task} {known[task]} {split}"

    def __len__(self) -> int:
        return FRAMES[self._split]

    def name(self, index: int) -> str:
        """Split and number."""
        return f"{self._split}/{index:05d}"

    def picture(self, index: int) -> Picture:
        """Generates image `index` with its label and the distance of every labelled pixel to the deciding cue."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self._fingerprinted}: no image {index}, there are {len(self)}")
        seeds = np.random.SeedSequence(int.from_bytes(self._identity.encode(), "big"), spawn_key=(index,))
        random = np.random.Generator(np.random.PCG64(seeds))
        if self._task == "scene":
            return scene.scene(random)
        return TASKS[self._task].draw(Chance(random, self._split in HELD_OUT, self._cue))

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Image `index`, uint8 RGB (96, 96, 3), and its label, uint8 (96, 96)."""
        picture = self.picture(index)
        return picture.image, picture.label

    def fingerprint(self) -> str:
        """Digest of task, generator version, split, number of images, and the pixels of the first.

        The pixels tell of a generator that changed without its version, or of another numpy's random numbers.
        """
        return digest([self._fingerprinted, len(self), *(pixels.tobytes().hex() for pixels in self.load(0))])

    def contents(self) -> None:
        """Generated images have no bytes on disk: their generator's version is in the fingerprint."""
