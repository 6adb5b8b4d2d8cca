"""Appendix Table 1 as printed, our recipe for each of its lines, and the source of every value of a recipe.

`Paper:` the paper; `Official code:` the release at c87bcae (or the Jittor one, where named); `VAN:` VAN's code, with
which the authors pretrained (issue 33 of the release); `Ours:` a choice of this project. Facts: datasets.md, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segnext.config.fields import Choice, official, ours, paper
from studies.declare.protocols import PAPER, Recipe


@dataclass(frozen=True)
class PrintedRecipe:
    """A line of appendix Table 1. `recipe` names our recipe for it in protocol `paper`, the last one of its chain."""

    dataset: str
    crop: tuple[int, int]  # (height, width) in pixels
    batch: int
    iterations: tuple[int, ...]  # of consecutive trainings
    recipe: str
    note: str = ""


NUMBER = "Appendix Table 1"

CAPTION = (
    "Training details on different benckmarks. 80K + 80K means we pretrain 80K iterations on Pascal VOC trainaug set "
    "and finetune 80K on its trainval set. 80K + 40K denotes we pretrain 600K iterations on COCO dataset and finetune "
    "40K on its trainval set."
)

APPENDIX_TABLE1 = (
    PrintedRecipe("ADE20K", (512, 512), 16, (160_000,), "ade20k"),
    PrintedRecipe("Cityscapes", (1024, 1024), 8, (160_000,), "cityscapes"),
    PrintedRecipe("COCO-Stuff", (512, 512), 16, (80_000,), "coco_stuff164k"),
    PrintedRecipe(
        "Pascal VOC",
        (512, 512),
        16,
        (80_000, 80_000),
        "voc2012_test",
        "Sec. 4 prints 80K iterations for Pascal VOC. Two runs here: the second starts from the weights of the first, "
        "with a schedule of its own.",
    ),
    PrintedRecipe(
        "Pascal VOC w/ COCO",
        (512, 512),
        16,
        (600_000, 40_000),
        "voc2012_test after coco_voc",
        'The caption says "80K + 40K", and 600K in the same sentence; the table\'s 600K + 40K is taken. SegNeXt-L '
        "alone (Table 10).",
    ),
    PrintedRecipe("Pascal Context", (480, 480), 16, (80_000,), "pascal_context"),
    PrintedRecipe("iSAID", (896, 896), 16, (160_000,), "isaid"),
)

_SCALE = ours("the scale is mmsegmentation's", "no config was released")

CHOICES: Mapping[str, tuple[Choice, ...]] = {
    "ade20k": (official("scale", "whole images tested, at multiples of 32"),),
    "cityscapes": (official("scale", "tested in windows, on which the paper is silent"),),
    "cityscapes_test": (
        paper("Table 11's input size"),
        ours("trained at it, without val", "the paper says neither"),
    ),
    "coco_stuff164k": (official("scale and 171 classes", 'the paper\'s 172 count "unlabeled"'),),
    "voc2012_trainaug": (_SCALE,),
    "voc2012_test": (_SCALE, ours("what is predicted for the test split is scored by the VOC server")),
    "coco_voc": (ours("COCO with VOC's 21 classes", "the paper gives no label map"), ours("scale")),
    "voc2012_test after coco_voc": (_SCALE,),
    "pascal_context": (_SCALE, ours("whole images tested", "59 classes, as the rows compared with")),
    "pascal_context after ade20k": (paper("Table 12, †"), ours("the same length as without")),
    "isaid": (
        official("the Jittor release's scale, whole tiles tested"),
        ours(
            "tiles of 896 overlapping by 384, as the PyTorch release's instructions", "the Jittor ones say 800 and 200"
        ),
    ),
}
"""By recipe of segmentation: what appendix Table 1 does not print, and where we take it from."""

FIELDS: Mapping[str, str] = {
    "Data.dataset": "Dataset",
    "Data.classes": "Classes",
    "Data.train_split": "Training split",
    "Data.test_split": "Test split",
    "Data.scale": "Size that an image is fitted into, keeping its ratio (long × short edge)",
    "Data.crop": "Training crop",
    "Data.ratio": "Random scaling, from and to",
    "Data.cat_max_ratio": "Largest share of a crop that one class may take",
    "Data.flip": "Probability of a horizontal flip",
    "Data.photometric": "Photometric distortion",
    "Data.test_scales": "Scales of the multi-scale test, each also flipped",
    "Data.test_multiple": "Tested at multiples of (pixels)",
    "Data.window": "Tested in windows of",
    "Data.stride": "From one window to the next",
    "Data.generator": "Version of the generator",
    "Train.iterations": "Iterations",
    "Train.batch": "Batch, over all processes",
    "Train.learning_rate": "Learning rate",
    "Train.head_learning_rate_factor": "Its factor in the decoder",
    "Train.weight_decay": "Weight decay",
    "Train.warmup_iterations": "Iterations of linear warm-up",
    "Train.warmup_ratio": "Where the warm-up begins, as a part of the rate",
    "Train.poly_power": "Power of the poly decay to zero",
    "Train.dropout": "Dropout before the classifier",
    "Train.accumulate": "Parts that a batch is passed in",
    "ClassificationData.dataset": "Dataset",
    "ClassificationData.classes": "Classes",
    "ClassificationData.train_split": "Training split",
    "ClassificationData.test_split": "Test split",
    "ClassificationData.crop": "Crop, in training and in the test",
    "ClassificationData.area": "Random resized crop, its share of the image's area",
    "ClassificationData.aspect": "Random resized crop, its aspect ratio",
    "ClassificationData.interpolations": "Interpolation, one at random",
    "ClassificationData.flip": "Probability of a horizontal flip",
    "ClassificationData.rand_augment": "RandAugment, magnitude and its deviation",
    "ClassificationData.erasing": "Probability of random erasing",
    "ClassificationData.test_resize": "Short edge before the test's centre crop",
    "ClassificationData.mean": "Mean subtracted, of channels in 0 to 1",
    "ClassificationData.deviation": "Divided by",
    "ClassificationTrain.iterations": "Iterations",
    "ClassificationTrain.batch": "Batch, over all processes",
    "ClassificationTrain.learning_rate": "Learning rate",
    "ClassificationTrain.minimum_learning_rate": "Rate at the end of the cosine",
    "ClassificationTrain.weight_decay": "Weight decay",
    "ClassificationTrain.epoch_iterations": "Iterations of an epoch, through which the rate is constant",
    "ClassificationTrain.warmup_iterations": "Iterations of linear warm-up",
    "ClassificationTrain.warmup_learning_rate": "Rate at which the warm-up begins",
    "ClassificationTrain.cooldown_iterations": "Iterations at the lowest rate, at the end",
    "ClassificationTrain.mixup": "Mixup, parameter of its beta distribution",
    "ClassificationTrain.cutmix": "CutMix, parameter of its beta distribution",
    "ClassificationTrain.switch": "Probability of CutMix instead of mixup",
    "ClassificationTrain.mixing": "Images that are mixed among themselves",
    "ClassificationTrain.smoothing": "Label smoothing",
    "ClassificationTrain.accumulate": "Parts that a batch is passed in",
}
"""The label of every field of a recipe. The field itself says who chose its value under protocol `paper`."""


@dataclass(frozen=True)
class Fixed:
    """A setting that all recipes share and that is a constant in the code; tests check that both agree."""

    words: str
    value: str
    choices: tuple[Choice, ...]


FIXED = (
    Fixed("Optimiser", "AdamW, betas 0.9 and 0.999, eps 1e-8", (paper("Sec. 4"), official("betas"))),
    Fixed("Not decayed", 'what has "norm" in its name, outside the decoder', (official("paramwise_cfg"),)),
    Fixed("Loss", "cross-entropy, summed over labelled pixels, divided by all pixels", (official(),)),
    Fixed("Mean subtracted, red, green, blue", "123.675, 116.28, 103.53", (official("img_norm_cfg"),)),
    Fixed("Divided by", "58.395, 57.12, 57.375", (official("img_norm_cfg"),)),
)


def chain(recipe: str) -> list[tuple[str, Recipe]]:
    """A recipe of protocol `paper` and those trained before it, in order of training, each with its name."""
    found = PAPER[recipe]
    return [*(chain(found.after) if found.after else []), (recipe, found)]
