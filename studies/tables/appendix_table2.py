"""Appendix Table 2: MSCA in the decoder. Run: `python -m studies.run appendix_table2`."""

from segnext.config import Model
from studies.declare.study import Panel, Row, Study, claims
from studies.declare.subtasks import WITHOUT_STRIPS, at_rates, below, controls, equal, micro, subtask

COCO = Panel("coco_stuff164k")

_WHY = COCO.why(
    gflops="Counted with ADE20K's 150 classes, which reproduce all eight rows; the caption says COCO-Stuff, with 171."
)


_GLOBAL = "a CNN-style encoder needs a head with a global receptive field (appendix 2)"


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
        *claims("a2-ham-T", "t-ham", "t-msca", _GLOBAL, COCO(None, None, 0.5, 0.5)),
        *claims("a2-ham-S", "s-ham", "s-msca", _GLOBAL, COCO(None, None, 0.1, 0.4)),
        *claims("a2-ham-B", "b-ham", "b-msca", _GLOBAL, COCO(None, None, 0.7, 0.8)),
        *claims("a2-ham-L", "l-ham", "l-msca", _GLOBAL, COCO(None, None, 0.6, 0.8)),
    ),
    subtasks=micro(
        WITHOUT_STRIPS,
        quick=(
            subtask(
                "key",
                below("t-msca", "t-ham", "a head has to see the whole image", (68, 255), "paper"),
                equal("t-msca", "t-ham", "encoder and MSCA head together see 68 pixels", (20, 60)),
            ),
        ),
        quick_full=(
            *controls("key", ("t-msca",), "t-ham"),  # Table 5 trains Ham without the cue
            *at_rates("key", below("t-msca", "t-ham", distances=(68, 255))),
        ),
    ),
)
