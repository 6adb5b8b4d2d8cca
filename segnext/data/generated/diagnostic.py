"""Generated datasets, `diagnostic/<task>`: images with exact labels, computed only from (task, split, index).

`scene` is a mixed task. Each of the others isolates one ability (`segnext.data.generated.tasks`) and has two controls
with the same layouts and labels: in `<task>-no-cue` the deciding cue is painted neutral, so no network may solve it; in
`<task>-local` an object's own colour shows its class, so every network should.
"""

from __future__ import annotations

import numpy as np

from segnext.config import digest
from segnext.data.generated import scene
from segnext.data.generated.drawing import Picture
from segnext.data.generated.tasks import TASKS, Chance
from segnext.data.source import Pixels

FRAMES = {"train": 2000, "val": 200, "test": 200, "tuning": 2000, "tuning-val": 200}
"""Images per split. `test` uses parameters that no other split uses; `tuning` is for choosing learning rates."""

HELD_OUT = ("test",)
_SUFFIXES = {"removed": "-no-cue", "local": "-local", "seen": ""}


def tasks() -> dict[str, str]:
    """Every task and control, with the version of its generator."""
    versions = {"scene": scene.VERSION}
    for name, task in TASKS.items():
        versions |= {name + _SUFFIXES[cue]: task.version for cue in task.cues}
    return versions


class GeneratedSource:
    """One split of a generated dataset, with the same images on every machine and at every call.

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
        self._identity = f"diagnostic/{self._task} {known[task]} {split}"  # controls draw as the task does
        self._fingerprinted = f"diagnostic/{task} {known[task]} {split}"

    def __len__(self) -> int:
        return FRAMES[self._split]

    def name(self, index: int) -> str:
        """The image's name: split and number."""
        return f"{self._split}/{index:05d}"

    def picture(self, index: int) -> Picture:
        """Generate image `index`, its label and the distance of every labelled pixel to the deciding cue.

        Raises `IndexError` if there is no such image.
        """
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
        """Digest of task, generator version, split, number of images and the pixels of the first image.

        The pixels reveal a generator that changed without its version, or a numpy with other random numbers.
        """
        return digest([self._fingerprinted, len(self), *(pixels.tobytes().hex() for pixels in self.load(0))])

    def contents(self) -> None:
        """None: generated images have no bytes on disk, and the fingerprint has the generator's version."""
