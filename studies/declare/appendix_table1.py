"""Appendix Table 1 as printed, the recipe that answers each of its lines, and where every value of a recipe is from.

`Paper:` the paper; `Official code:` the release at c87bcae (or, where named, the Jittor one); `VAN:` VAN's code, as
which the authors pretrained (issue 33 of the release); `Ours:` a choice of this project. Facts: datasets.md, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studies.declare.protocols import PAPER, Recipe


@dataclass(frozen=True)
class PrintedRecipe:
    """A line of appendix Table 1. `recipe` names the one of protocol `paper` that answers it, the last of its chain."""

    dataset: str
    crop: tuple[int, int]  # (height, width) in pixels
    batch: int
    iterations: tuple[int, ...]  # of the trainings one after another
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

_MMSEGMENTATION = "Ours: the scale is mmsegmentation's; no config was released."

CHOICES: Mapping[str, str] = {
    "ade20k": "Official code: scale; whole images tested, at multiples of 32.",
    "cityscapes": "Official code: scale; tested in windows, on which the paper is silent.",
    "cityscapes_test": "Paper: Table 11's input size. Ours: trained at it, without val; the paper says neither.",
    "coco_stuff164k": 'Official code: scale and 171 classes; the paper\'s 172 count "unlabeled".',
    "voc2012_trainaug": _MMSEGMENTATION,
    "voc2012_test": f"{_MMSEGMENTATION} What is predicted for the test split is scored by the VOC server.",
    "coco_voc": "Ours: COCO with VOC's 21 classes; the paper gives no label map. Ours: scale.",
    "voc2012_test after coco_voc": _MMSEGMENTATION,
    "pascal_context": f"{_MMSEGMENTATION} Ours: whole images tested; 59 classes, as the rows compared with.",
    "pascal_context after ade20k": "Paper: Table 12, †. Ours: the same length as without.",
    "isaid": (
        "Official code (Jittor): scale, whole tiles tested. Ours: tiles of 896 overlapping by 384, as the PyTorch "
        "release's instructions; the Jittor ones say 800 and 200."
    ),
}
"""By recipe of segmentation: what appendix Table 1 does not print of it, and where that comes from."""

FIELDS: Mapping[str, tuple[str, str]] = {
    "Data.dataset": ("Dataset", "Paper: Sec. 4"),
    "Data.classes": ("Classes", "Paper: Sec. 4"),
    "Data.train_split": ("Training split", "Paper: appendix Table 1 (VOC). Ours: else the usual one"),
    "Data.test_split": ("Test split", "Paper: Tables 4 to 12. Ours: val where they do not say"),
    "Data.scale": ("Size that an image is fitted into, keeping its ratio (long × short edge)", "Official code"),
    "Data.crop": ("Training crop", "Paper: appendix Table 1"),
    "Data.ratio": ("Random scaling, from and to", "Paper: Sec. 4"),
    "Data.cat_max_ratio": ("Largest share of a crop that one class may take", "Official code: RandomCrop"),
    "Data.flip": ("Probability of a horizontal flip", "Paper: Sec. 4. Official code: 0.5"),
    "Data.photometric": ("Photometric distortion", "Official code: PhotoMetricDistortion; not in the paper"),
    "Data.test_scales": ("Scales of the multi-scale test, each also flipped", "Official code"),
    "Data.test_multiple": ("Tested at multiples of (pixels)", "Official code: ResizeToMultiple"),
    "Data.window": ("Tested in windows of", "Official code"),
    "Data.stride": ("From one window to the next", "Official code"),
    "Data.generator": ("Version of the generator", "Ours: of data that is generated"),
    "Train.iterations": ("Iterations", "Paper: Sec. 4, appendix Table 1"),
    "Train.batch": ("Batch, over all processes", "Paper: Sec. 4, appendix Table 1"),
    "Train.learning_rate": ("Learning rate", "Paper: Sec. 4"),
    "Train.head_learning_rate_factor": ("Its factor in the decoder", "Official code: paramwise_cfg"),
    "Train.weight_decay": ("Weight decay", "Official code"),
    "Train.warmup_iterations": ("Iterations of linear warm-up", "Official code"),
    "Train.warmup_ratio": ("Where the warm-up begins, as a part of the rate", "Official code"),
    "Train.poly_power": ("Power of the poly decay to zero", 'Official code; the paper says "poly"'),
    "Train.dropout": ("Dropout before the classifier", "Official code"),
    "Train.accumulate": ("Parts that a batch is passed in", "Ours"),
    "ClassificationData.dataset": ("Dataset", "Paper: Sec. 4"),
    "ClassificationData.classes": ("Classes", "Paper: Sec. 4"),
    "ClassificationData.train_split": ("Training split", "Paper: Sec. 4"),
    "ClassificationData.test_split": ("Test split", "Paper: Table 3"),
    "ClassificationData.crop": ("Crop, in training and in the test", "VAN; DeiT: the same"),
    "ClassificationData.area": ("Random resized crop, its share of the image's area", "VAN; DeiT: the same"),
    "ClassificationData.aspect": ("Random resized crop, its aspect ratio", "VAN; DeiT: the same"),
    "ClassificationData.interpolations": ("Interpolation, one at random", "VAN; DeiT: bicubic"),
    "ClassificationData.flip": ("Probability of a horizontal flip", "VAN; DeiT: the same"),
    "ClassificationData.rand_augment": ("RandAugment, magnitude and its deviation", "VAN; DeiT: the same"),
    "ClassificationData.erasing": ("Probability of random erasing", "VAN; DeiT: the same"),
    "ClassificationData.test_resize": ("Short edge before the test's centre crop", "VAN; DeiT: 256"),
    "ClassificationData.mean": ("Mean subtracted, of channels in 0 to 1", "VAN; DeiT: ImageNet's"),
    "ClassificationData.deviation": ("Divided by", "VAN; DeiT: ImageNet's"),
    "ClassificationTrain.iterations": ("Iterations", "VAN: 300 epochs and 10 of cooldown"),
    "ClassificationTrain.batch": ("Batch, over all processes", "VAN: 8 × 128"),
    "ClassificationTrain.learning_rate": ("Learning rate", "VAN; DeiT: the same at this batch"),
    "ClassificationTrain.minimum_learning_rate": ("Rate at the end of the cosine", "VAN; DeiT: 1e-5"),
    "ClassificationTrain.weight_decay": ("Weight decay", "VAN; DeiT: the same"),
    "ClassificationTrain.epoch_iterations": ("Iterations of an epoch, through which the rate is constant", "VAN"),
    "ClassificationTrain.warmup_iterations": ("Iterations of linear warm-up", "VAN: 5 epochs"),
    "ClassificationTrain.warmup_learning_rate": ("Rate at which the warm-up begins", "VAN"),
    "ClassificationTrain.cooldown_iterations": ("Iterations at the lowest rate, at the end", "VAN: 10 epochs"),
    "ClassificationTrain.mixup": ("Mixup, parameter of its beta distribution", "VAN; DeiT: the same"),
    "ClassificationTrain.cutmix": ("CutMix, parameter of its beta distribution", "VAN; DeiT: the same"),
    "ClassificationTrain.switch": ("Probability of CutMix instead of mixup", "VAN; DeiT: the same"),
    "ClassificationTrain.mixing": ("Images that are mixed among themselves", "VAN: the batch of one of 8 GPUs"),
    "ClassificationTrain.smoothing": ("Label smoothing", "VAN; DeiT: the same"),
    "ClassificationTrain.accumulate": ("Parts that a batch is passed in", "Ours"),
}
"""Every field of a recipe in words, with the source of its value under protocol `paper`."""


@dataclass(frozen=True)
class Fixed:
    """What every recipe shares and no value sets: the code has it as a constant, which the tests hold this to."""

    words: str
    value: str
    source: str


FIXED = (
    Fixed("Optimiser", "AdamW, betas 0.9 and 0.999, eps 1e-8", "Paper: Sec. 4. Official code: betas"),
    Fixed("Not decayed", 'what has "norm" in its name, outside the decoder', "Official code: paramwise_cfg"),
    Fixed("Loss", "cross-entropy, summed over labelled pixels, divided by all pixels", "Official code"),
    Fixed("Mean subtracted, red, green, blue", "123.675, 116.28, 103.53", "Official code: img_norm_cfg"),
    Fixed("Divided by", "58.395, 57.12, 57.375", "Official code: img_norm_cfg"),
)


def chain(recipe: str) -> list[tuple[str, Recipe]]:
    """A recipe of protocol `paper` and those that are trained before it, the first first, each with its name."""
    found = PAPER[recipe]
    return [*(chain(found.after) if found.after else []), (recipe, found)]
