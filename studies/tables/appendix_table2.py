"""Appendix Table 2: MSCA in the decoder. Run: `python -m studies.run appendix_table2`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study
from studies.declare.subtasks import CHANCE, MICROSCOPE, Prediction, Subtask

COCO = Panel("coco_stuff164k")

_WHY = COCO.why(
    gflops="Counted with ADE20K's 150 classes, which reproduce all eight rows; the caption says COCO-Stuff, with 171."
)


def _global(size: str, single: float, multi: float) -> tuple[Claim, Claim]:
    text = "a CNN-style encoder needs a head with a global receptive field (appendix 2)"
    ours, other = f"{size.lower()}-ham", f"{size.lower()}-msca"
    return (
        Claim(f"a2-ham-{size}-miou_ss", ours, other, "miou_ss", single, text),
        Claim(f"a2-ham-{size}-miou_ms", ours, other, "miou_ms", multi, text),
    )


STUDY = Study(
    slug="appendix_table2",
    number="Appendix Table 2",
    caption=(
        "Performance of different head in decoder. SegNeXt-T w/ Ham means the MSCAN-T encoder plus the Ham decoder. "
        "FLOPs are calculated using the input size of 512×512. Experiments are conducted on COCO-Stuff dataset."
    ),
    panels=(COCO,),
    rows=(
        Row("SegNeXt-T w/ MSCA", "t-msca", Model("T", context="msca"), COCO(4.4, 6.7, 38.2, 38.6)),
        Row("SegNeXt-T w/ Ham", "t-ham", Model("T"), COCO(4.3, 6.6, 38.7, 39.1)),
        Row("SegNeXt-S w/ MSCA", "s-msca", Model("S", context="msca"), COCO(14.0, 15.9, 42.1, 42.4), why=_WHY),
        Row("SegNeXt-S w/ Ham", "s-ham", Model("S"), COCO(13.9, 15.9, 42.2, 42.8)),
        Row("SegNeXt-B w/ MSCA", "b-msca", Model("B", context="msca"), COCO(28.0, 33.6, 45.1, 45.5), why=_WHY),
        Row("SegNeXt-B w/ Ham", "b-ham", Model("B"), COCO(27.6, 34.9, 45.8, 46.3), why=_WHY),
        Row("SegNeXt-L w/ MSCA", "l-msca", Model("L", context="msca"), COCO(50.1, 69.8, 45.9, 46.4), why=_WHY),
        Row("SegNeXt-L w/ Ham", "l-ham", Model("L"), COCO(48.9, 70.0, 46.5, 47.2), why=_WHY),
    ),
    claims=(
        *_global("T", 0.5, 0.5),
        *_global("S", 0.1, 0.4),
        *_global("B", 0.7, 0.8),
        *_global("L", 0.6, 0.8),
    ),
    subtasks=(
        Subtask(
            "diagnostic/key",
            rows=("t-msca", "t-ham"),
            predictions=(
                Prediction("t-msca", "t-ham", "-", "a head has to see the whole image", "paper", (68, 255)),
                Prediction("t-msca", "t-ham", "0", "encoder and MSCA head together see 68 pixels", distances=(20, 60)),
            ),
            changes={**MICROSCOPE, "branches": ()},
        ),
        Subtask(
            "diagnostic/key-no-cue",
            rows=("t-msca",),
            predictions=(Prediction("t-msca", CHANCE, "0", "nothing tells the classes apart"),),
            changes={**MICROSCOPE, "branches": ()},
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/key-local",
            rows=("t-msca", "t-ham"),
            predictions=(Prediction("t-msca", "t-ham", "0", "every pixel tells its own class"),),
            changes={**MICROSCOPE, "branches": ()},
            protocol="quick-full",
        ),
        *(
            Subtask(
                f"diagnostic/key at {rate}",
                rows=("t-msca", "t-ham"),
                predictions=(
                    Prediction("t-msca", "t-ham", "-", "as at the rate that all rows share", distances=(68, 255)),
                ),
                changes={**MICROSCOPE, "branches": ()},
                protocol="quick-full",
            )
            for rate in ("0.001", "0.004", "0.016")
        ),
    ),
)
