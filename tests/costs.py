"""The networks whose parameters and FLOPs were measured on the released code, and what was measured."""

from __future__ import annotations

import csv
from pathlib import Path

from conftest import FIXTURES

from segnext import Cost, Model


def segmentation(model: Model, classes: int = 150, height: int = 512, width: int = 512) -> Cost:
    return Cost(model, classes, height, width)


def classification(model: Model) -> Cost:
    return Cost(model, 1000, 224, 224, task="classification")


TABLE6 = {
    "7": {"branches": (7,)},
    "11": {"branches": (11,)},
    "21": {"branches": (21,)},
    "no1x1": {"channel_mixing": False},
    "noatt": {"attention": False},
    "full": {},
}


# The lines of shared/paper/costs.csv that architectures.md says a table's row is, and the value that names each here.
VARIANTS: dict[str, Cost] = {
    **{f"seg/{size}/ade150": segmentation(Model(size)) for size in "TSBL"},
    **{f"seg/{size}/coco171": segmentation(Model(size), 171) for size in "TSBL"},
    **{f"seg/{size}/ctx59": segmentation(Model(size), 59) for size in "TSBL"},
    **{f"seg/{size}/city19@1024x2048": segmentation(Model(size), 19, 1024, 2048) for size in "TSBL"},
    **{f"cls/MSCAN-{size}/1000@224": classification(Model(size)) for size in "TSBL"},
    "t5/B/cc_r2": segmentation(Model("B", context="cc")),
    "t5/B/ema_k64_s3": segmentation(Model("B", context="ema")),
    "t5/B/nl_red2": segmentation(Model("B", context="nl")),
    "t5/B/none": segmentation(Model("B", context="none")),
    **{f"t6/seg-T/{name}": segmentation(Model("T", **switch)) for name, switch in TABLE6.items()},
    **{f"t6/cls-T/{name}@224": classification(Model("T", **switch)) for name, switch in TABLE6.items()},
    "t7/T/a_mmseg_SegformerHead256": segmentation(Model("T", decoder="a")),
    "t7/T/b_ham_stage4": segmentation(Model("T", decoder="b")),
    "t7/T/c+stage1": segmentation(Model("T", stages=(1, 2, 3, 4))),
    "t8/T/VAN+LightHam": segmentation(Model("T", encoder="van")),
    "t8/S/VAN+LightHam": segmentation(Model("S", encoder="van")),
    "t8/S/VAN+LightHam_R32": segmentation(Model("S", encoder="van", nmf_rank=32)),
    "t8/T/MSCAN_with_LKA": segmentation(Model("T", mixer="lka")),
    "t8/S/MSCAN_with_LKA": segmentation(Model("S", mixer="lka")),
    **{f"a2/{size}/msca_head_nc150": segmentation(Model(size, context="msca")) for size in "TSBL"},
    **{f"a2/{size}/msca_head_nc171": segmentation(Model(size, context="msca"), 171) for size in "TSBL"},
}


def lines(path: Path) -> dict[str, dict[str, str]]:
    with open(path) as file:
        return {line["variant"]: line for line in csv.DictReader(file)}


EXPECTED = lines(FIXTURES / "costs.csv")
