"""Protocols: the data and the recipes with which a study is run.

`paper`, `paper-pretrained`, `camvid`, `camvid-half`, `quick`, `quick-full`, and `smoke`, which only tests a cluster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from segnext.config import ENCODERS, ClassificationData, ClassificationTrain, Data, Model, Run, Train
from studies.declare.study import Panel, Row, Study, unknown
from studies.declare.subtasks import RATES, Subtask

UPSTREAM_SEED = 0  # pretraining has its own seed (DESIGN.md, "Running on SLURM")
PRETRAINING_DROP_PATH = {"L": 0.2}  # VAN's code: B3 0.2, the others 0.1, as for segmentation
RELEASED = "released/"  # prefix of the names of released ImageNet weights in `Run.init`


@dataclass(frozen=True)
class Recipe:
    """The data and the training of a run. `after` names the recipe trained before, from whose weights it starts."""

    data: Data | ClassificationData
    train: Train | ClassificationTrain
    after: str = ""


@dataclass(frozen=True)
class Protocol:
    """How every row of a study is trained and tested. Raise `version` if a recipe changes: old results stay apart."""

    name: str
    version: int
    purpose: str
    needs: str  # what a user must bring
    seeds: tuple[int, ...]  # unless --seeds says otherwise
    recipes: Mapping[str, Recipe]  # by a panel's key; "*": the recipe that replaces every segmentation dataset
    size: str | None = None  # train every row at this size instead of its own
    pretraining: str = ""  # ImageNet-1K weights that training starts from: `own`, `released`, or none
    seeds_of_subtasks: tuple[int, ...] = (0, 1, 2, 3, 4)  # more seeds, because sub-tasks carry predictions
    subtasks_alone: bool = False  # whether it trains only sub-tasks of the generated data
    comparable: bool = False  # whether an accuracy may be compared with a printed one

    def panels(self, study: Study) -> list[Panel]:
        """The panels of a study that are trained. A dataset that replaces the paper's is used for the first only."""
        if own := [panel for panel in study.subtasks if panel.protocol == self.name]:
            return own
        return [panel for panel in study.panels if not self._reason(study, panel)]

    def left_out(self, study: Study) -> list[str]:
        """The panels of a study that are not trained, each with the reason, as sentences."""
        if len(self.panels(study)) and self.panels(study)[0] in study.subtasks:
            return []
        reasons = ((panel, self._reason(study, panel)) for panel in study.panels)
        return [f"{study.slug} on {panel.dataset}: {reason}" for panel, reason in reasons if reason]

    def _reason(self, study: Study, panel: Panel) -> str:
        """Why a panel is not trained; "" if it is."""
        if self.subtasks_alone:
            return f"protocol {self.name} trains sub-tasks of the generated data alone, and the study has none there"
        if not panel.accuracies:
            return "the table prints costs alone"
        if self.pretraining == "released" and panel.task == "segmentation":
            without = [row.label for row in study.trained if released_encoder(row.model) is None]
            if without:
                return f"nobody released ImageNet weights for the encoder of {', '.join(without)}; --protocol paper"
        if "*" not in self.recipes:
            return "" if panel.dataset in self.recipes else f"protocol {self.name} has no recipe for it"
        if panel.task != "segmentation":
            return f"protocol {self.name} trains segmentation alone"
        if panel != next(p for p in study.panels if p.accuracies and p.task == "segmentation"):
            return f"protocol {self.name} has one dataset in place of all"
        if self.size and (wide := [row.label for row in study.trained if ENCODERS[row.model.encoder]]):
            return (
                f"protocol {self.name} trains {self.size} models; no {self.size} encoder is there for {', '.join(wide)}"
            )
        if self.size and len({self.model(row) for row in study.trained}) == 1:
            return f"protocol {self.name} would train every row as the same {self.size} model"
        return ""

    def recipe(self, panel: Panel, row: Row | None = None) -> Recipe:
        """The recipe of a panel, or of a row with its own pretraining. Raises `ValueError` if there is none."""
        name = f"{panel.key} after {row.pretraining}" if row and row.pretraining else panel.key
        found = self.recipes.get(name if isinstance(panel, Subtask) or name in self.recipes else "*")
        if found is None:
            raise ValueError(f"protocol {self.name} has no recipe for {name}")
        return found

    def seeds_for(self, study: Study) -> tuple[int, ...]:
        """The seeds of a study, unless --seeds says otherwise."""
        return self.seeds_of_subtasks if any(panel in study.subtasks for panel in self.panels(study)) else self.seeds

    def model(self, row: Row, panel: Panel | None = None) -> Model:
        """The row's model at the protocol's size, or with the changes of a panel that belongs to a protocol."""
        if panel is not None and panel.protocol:
            return dataclasses.replace(row.model, **panel.changes)
        return row.model if self.size is None else dataclasses.replace(row.model, size=self.size)

    def run(self, panel: Panel, row: Row, seed: int, limit_iterations: int | None = None) -> Run:
        """The run that measures this row: `studies.run` trains it, and tables look for its record."""
        model, recipe = self.model(row, panel), self.recipe(panel, row)
        if limit_iterations is not None and limit_iterations >= recipe.train.iterations:
            limit_iterations = None  # then upstream runs are not shortened, either
        if panel.task == "classification":
            return self._pretrained(model, seed, limit_iterations)
        return self._run(recipe, model, seed, limit_iterations)

    def _run(self, recipe: Recipe, model: Model, seed: int, limit: int | None) -> Run:
        train = recipe.train if limit is None else recipe.train.limited(limit)
        if recipe.after:
            beginning: Run | str | None = self._run(self.recipes[recipe.after], model, UPSTREAM_SEED, limit)
        else:
            beginning = self._beginning(model, limit)
        return Run(self.name, self.version, model, recipe.data, train, seed, beginning)

    def _beginning(self, model: Model, limit: int | None) -> Run | str | None:
        """The ImageNet-1K weights for a model's encoder: the run that trains them, or the name of released ones."""
        if not self.pretraining:
            return None
        if self.pretraining == "own" and model.encoder in ("mscan", "van"):
            return self._pretrained(model, UPSTREAM_SEED, limit)
        return f"{RELEASED}{released_encoder(model)}"

    def _pretrained(self, model: Model, seed: int, limit: int | None) -> Run:
        """The run that pretrains a model's encoder; models with the same encoder share it, whatever their decoder."""
        recipe = self.recipes["imagenet1k"]
        train = recipe.train if limit is None else recipe.train.limited(limit)
        alone = dataclasses.replace(model.encoder_alone, drop_path=PRETRAINING_DROP_PATH.get(model.size))
        return Run(self.name, self.version, alone, recipe.data, train, seed)


def released_encoder(model: Model) -> str | None:
    """The name of released ImageNet-1K weights for this model's encoder; None if there are none."""
    alone = model.encoder_alone
    released = {Model(size): f"mscan_{size.lower()}" for size in "TSBL"}
    released |= {Model(size, encoder="van"): f"van_b{number}" for number, size in enumerate("TSBL")}
    if alone.encoder in ("mscan", "van"):
        return released.get(alone)
    return alone.encoder.replace("segformer", "mit")


def _from_scratch(iterations: int, batch: int, learning_rate: float, warmup_iterations: int) -> Train:
    """Ours: without pretraining the learning rate is higher, and the same for encoder and decoder."""
    return Train(
        iterations,
        batch,
        learning_rate=learning_rate,
        head_learning_rate_factor=1.0,
        warmup_iterations=warmup_iterations,
    )


_CONTEXT = Data("pascal_context", 59, (520, 520), (480, 480))  # Ours: mmsegmentation's scale; the paper gives the crop
_VOC = Data("voc2012", 21, (2048, 512), (512, 512), train_split="trainaug")  # Ours: mmsegmentation's scale

# Paper: Sec. 4 and appendix Table 1. Official code: scales, and the data's other fields.
PAPER = {
    "imagenet1k": Recipe(ClassificationData(), ClassificationTrain()),
    "ade20k": Recipe(Data("ade20k", 150, (2048, 512), (512, 512)), Train(160_000)),
    # Official code: tested in windows; the paper is silent.
    "cityscapes": Recipe(
        Data(
            "cityscapes",
            19,
            (2048, 1024),
            (1024, 1024),
            test_multiple=1,
            window=(1024, 1024),
            stride=(768, 768),
        ),
        Train(160_000, batch=8),
    ),
    # Ours: trained and tested at Table 11's input size, on `train` only; the paper says neither.
    "cityscapes_test": Recipe(
        Data("cityscapes", 19, (1536, 768), (768, 768), test_split="test"), Train(160_000, batch=8)
    ),
    "coco_stuff164k": Recipe(Data("coco_stuff164k", 171, (2048, 512), (512, 512)), Train(80_000)),
    "voc2012_trainaug": Recipe(_VOC, Train(80_000)),
    "voc2012_test": Recipe(
        dataclasses.replace(_VOC, train_split="trainval", test_split="test"), Train(80_000), after="voc2012_trainaug"
    ),
    # Ours: COCO with VOC's 21 classes; the paper gives no label map. Its caption prints 80K + 40K, its table 600K +
    # 40K.
    "coco_voc": Recipe(Data("coco_voc", 21, (2048, 512), (512, 512)), Train(600_000)),
    "voc2012_test after coco_voc": Recipe(
        dataclasses.replace(_VOC, train_split="trainval", test_split="test"), Train(40_000), after="coco_voc"
    ),
    "pascal_context": Recipe(_CONTEXT, Train(80_000)),
    "pascal_context after ade20k": Recipe(_CONTEXT, Train(80_000), after="ade20k"),
    # Ours: tiles of 896 with an overlap of 384 (PyTorch release; the Jittor one: 800, 200). Paper: only single scale.
    "isaid": Recipe(Data("isaid", 16, (896, 896), (896, 896)), Train(160_000)),
}

_SCENE = Data(
    "diagnostic/scene",
    7,
    (96, 96),
    (96, 96),
    ratio=(1.0, 1.0),
    photometric=False,
    test_scales=(1.0, 1.5),
    generator="1",
)
_THUMBNAIL = dataclasses.replace(_SCENE, scale=(32, 32), crop=(32, 32), test_scales=(1.0,))
_MOMENT = _from_scratch(20, batch=4, learning_rate=1e-3, warmup_iterations=2)


def _recipe(panel: Subtask) -> Recipe:
    """Ours: short, at a learning rate that was tuned on the sub-tasks, without dropout, augmented only by flips."""
    tuned = panel.learning_rate is not None
    data = Data(
        panel.dataset,
        panel.classes,
        (96, 96),
        (96, 96),
        train_split="tuning" if tuned else "train",
        test_split="tuning-val" if tuned else "test",  # `test` uses parameters that no training image has
        ratio=(1.0, 1.0),
        photometric=False,
        test_scales=(1.0,),
        generator="1",
    )
    train = _from_scratch(400, batch=8, learning_rate=panel.learning_rate or 4e-3, warmup_iterations=30)
    return Recipe(data, dataclasses.replace(train, dropout=0.0))


def _with_controls(name: str) -> list[Subtask]:
    return [Subtask(name=name), Subtask(name=name, control="no-cue"), Subtask(name=name, control="local")]


_SUBTASKS = (
    *_with_controls("strips"),
    *(Subtask(name="strips", twin=twin) for twin in ("independent", "diagonal", "blobs")),
    Subtask(name="scale"),
    *_with_controls("key"),
    *_with_controls("gate"),
    Subtask(name="gate", twin="additive"),
    Subtask(name="mix"),
    Subtask(name="mix", twin="single"),
    Subtask(name="fine"),
    *(Subtask(name=name, learning_rate=rate) for name in ("strips", "key", "fine") for rate in RATES),
)
_GENERATED = {panel.key: _recipe(panel) for panel in _SUBTASKS}

_ALL = (
    Protocol(
        name="paper",
        version=1,
        purpose="the paper's datasets and recipes to the letter; the only one held against printed accuracies",
        needs="the datasets and ImageNet-1K, GPUs",
        seeds=(0, 1, 2),
        recipes=PAPER,
        pretraining="own",
        comparable=True,
    ),
    Protocol(
        name="paper-pretrained",
        version=1,
        purpose="the same from released ImageNet-1K weights (--pretrained DIR): no ImageNet needed",
        needs="the datasets, released ImageNet-1K weights, GPUs",
        seeds=(0, 1, 2),
        recipes={name: recipe for name, recipe in PAPER.items() if name != "imagenet1k"},
        pretraining="released",
        comparable=True,
    ),
    Protocol(
        name="camvid",
        version=1,
        purpose="CamVid at 480x360 from scratch: one GPU",
        needs="CamVid (--data-root)",
        seeds=(0, 1, 2),
        recipes={
            "*": Recipe(
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
            "*": Recipe(
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
            "*": Recipe(
                _SCENE,
                _from_scratch(300, batch=16, learning_rate=3e-3, warmup_iterations=30),
            ),
            **_GENERATED,
        },
        size="micro",
    ),
    Protocol(
        name="quick-full",
        version=1,
        purpose="further sub-tasks of the generated images, and the controls: three hours on a laptop",
        needs="nothing",
        seeds=(0, 1, 2),
        recipes=_GENERATED,
        subtasks_alone=True,
    ),
    Protocol(
        name="smoke",
        version=1,
        purpose="a moment of training after a moment of what it starts from: whether a cluster works, and nothing else",
        needs="nothing",
        seeds=(0,),
        recipes={"*": Recipe(_THUMBNAIL, _MOMENT, after="first"), "first": Recipe(_THUMBNAIL, _MOMENT)},
        size="micro",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def protocol(name: str) -> Protocol:
    """The protocol of this name. Raises `ValueError`, suggesting the nearest name, if there is none."""
    if name not in PROTOCOLS:
        raise ValueError(unknown("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]
