"""The data and the recipe that a study is run under: `paper`, `camvid`, `camvid-half`, `quick`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from segnext.config import Data, Run, Train
from studies.study import Row, Study, unknown

PRETRAINED = "imagenet1k"  # stands for the ImageNet-1K pretraining of the row's encoder (Paper: Sec. 4)


@dataclass(frozen=True)
class Protocol:
    """How every row of a study is trained and tested. A change to a recipe raises `version`: old results stay apart."""

    name: str
    version: int
    purpose: str
    needs: str  # what a user must bring
    seeds: tuple[int, ...]  # trained unless --seeds says otherwise
    recipes: Mapping[str, tuple[Data, Train]]  # by the study's dataset; "*": whatever the study's dataset is
    size: str | None = None  # trains every row at this size instead of its own
    init: str | None = None
    comparable: bool = False  # whether an accuracy may be held against a printed one

    def recipe(self, study: Study) -> tuple[Data, Train]:
        """The data and recipe for this study's dataset; `ValueError` where the protocol has none."""
        found = self.recipes.get(study.dataset) or self.recipes.get("*")
        if found is None:
            raise ValueError(f"protocol {self.name} has no recipe for {study.dataset}, the dataset of {study.slug}")
        return found

    def run(self, study: Study, row: Row, seed: int, limit_iterations: int | None = None) -> Run:
        """The run that measures this row: what `studies.run` trains and what the tables look for."""
        data, train = self.recipe(study)
        if limit_iterations is not None and limit_iterations < train.iterations:
            train = dataclasses.replace(train, iterations=limit_iterations)
        model = row.model if self.size is None else dataclasses.replace(row.model, size=self.size)
        return Run(self.name, self.version, model, data, train, seed, self.init)


def _from_scratch(iterations: int, batch: int, learning_rate: float, warmup_iterations: int) -> Train:
    """Ours: without pretraining the step is larger, and the decoder's the same as the encoder's."""
    return Train(
        iterations,
        batch,
        learning_rate=learning_rate,
        head_learning_rate_factor=1.0,
        warmup_iterations=warmup_iterations,
    )


_ALL = (
    Protocol(
        name="paper",
        version=1,
        purpose="the paper's dataset and recipe to the letter; the only one held against printed accuracies",
        needs="the dataset, ImageNet-1K pretraining, GPUs",
        seeds=(0, 1, 2),
        recipes={"ade20k": (Data("ade20k", 150, (2048, 512), (512, 512)), Train(iterations=160_000))},
        init=PRETRAINED,
        comparable=True,
    ),
    Protocol(
        name="camvid",
        version=1,
        purpose="CamVid at 480x360 from scratch: one GPU",
        needs="CamVid (--data-root)",
        seeds=(0, 1, 2),
        recipes={
            "*": (
                Data("camvid", 11, (480, 360), (352, 480), test_split="test"),
                _from_scratch(8_000, batch=8, learning_rate=1e-3, warmup_iterations=200),
            )
        },
    ),
    Protocol(
        name="camvid-half",
        version=1,
        purpose="CamVid at half its resolution from scratch: a patient CPU",
        needs="CamVid (--data-root)",
        seeds=(0, 1, 2),
        recipes={
            "*": (
                Data("camvid", 11, (240, 180), (176, 240), test_split="test"),
                _from_scratch(3_000, batch=8, learning_rate=1e-3, warmup_iterations=200),
            )
        },
    ),
    Protocol(
        name="quick",
        version=1,
        purpose="generated images and micro models with each row's switches: a laptop, minutes",
        needs="nothing",
        seeds=(0, 1, 2),
        recipes={
            "*": (
                Data(
                    "diagnostic/scene",
                    7,
                    (96, 96),
                    (96, 96),
                    ratio=(1.0, 1.0),
                    photometric=False,
                    test_scales=(1.0, 1.5),
                    generator="1",
                ),
                _from_scratch(300, batch=16, learning_rate=3e-3, warmup_iterations=30),
            )
        },
        size="micro",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def protocol(name: str) -> Protocol:
    """The protocol of this name; `ValueError` with the nearest name otherwise."""
    if name not in PROTOCOLS:
        raise ValueError(unknown("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]
