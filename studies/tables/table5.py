"""Table 5: global context for the decoder. Run: `python -m studies.run table5`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study, claims
from studies.declare.subtasks import WITHOUT_STRIPS, at_rates, below, controls, equal, micro, subtask

ADE = Panel("ade20k")

_CC = (
    "CC is CCNet's attention by the field's standard definition (query and key of C/8, applied twice with shared "
    "weights) in Ham's place. No definition that was tried gives both printed costs: with an output convolution "
    "27.70 M and 33.94 G, with Ham's two convolutions 27.96 M and 35.02 G, two modules 27.77 M and 32.87 G, those "
    "applied twice 27.77 M and 35.56 G. Its products are einsums, which the paper's tool does not count (0.60 G)."
)
_CLOSE = "Ham gives the best trade-off: close to non-local (0.1 below) at less computation"
_NEAR = "the ring is near: no context from elsewhere is needed"

STUDY = Study(
    slug="table5",
    number="Table 5",
    caption=(
        "Performance of different attention mechanisms in decoder. SegNeXt-B w/ Ham means the MSCAN-B encoder plus the "
        "Ham decoder. FLOPs are calculated using the input size of 512×512."
    ),
    panels=(ADE,),
    rows=(
        Row(
            "SegNeXt-B w/ CC",
            "cc",
            Model("B", context="cc"),
            ADE(27.8, 35.7, 47.3, 48.6),
            why=ADE.why(params_m=_CC, gflops=_CC),
        ),
        Row(
            "SegNeXt-B w/ EMA",
            "ema",
            Model("B", context="ema"),
            ADE(27.4, 32.3, 48.0, 49.1),
            note="Trainable parameters: EMA's first convolution is frozen in its public code.",
        ),
        Row("SegNeXt-B w/ NL", "nl", Model("B", context="nl"), ADE(27.6, 40.9, 48.6, 50.0)),
        Row("SegNeXt-B w/ Ham", "ham", Model("B"), ADE(27.6, 34.9, 48.5, 49.9)),
    ),
    claims=(
        *claims("t5-ham-cc", "ham", "cc", "Ham above CC (Sec. 4.2, global context)", ADE(None, None, 1.2, 1.3)),
        *claims("t5-ham-ema", "ham", "ema", "Ham above EMA (Sec. 4.2, global context)", ADE(None, None, 0.5, 0.8)),
        *claims("t5-ham-nl", "ham", "nl", _CLOSE, ADE(None, None, -0.1, -0.1), kind="equivalent"),
        Claim("t5-ham-nl-gflops", "nl", "ham", "gflops", 6.0, "Ham costs less than non-local, O(n) against O(n²)"),
    ),
    subtasks=micro(
        WITHOUT_STRIPS,
        quick=(
            subtask(
                "key",
                below("cc", "ham", "Ham above CC (Sec. 4.2)", (20, 255), "paper"),
                below("ema", "ham", "Ham above EMA (Sec. 4.2)", (20, 255), "paper"),
                equal("nl", "ham", "Ham close to non-local (Sec. 4.2)", (20, 255), "paper"),
            ),
            subtask("gate", *(equal(row, "ham", _NEAR) for row in ("cc", "ema", "nl"))),
        ),
        quick_full=(
            *controls("key", ("cc", "ema", "nl", "ham"), "ham"),
            *at_rates(
                "key",
                equal("cc", "ham", distances=(20, 255)),
                below("ema", "ham", distances=(20, 255)),
                equal("nl", "ham", distances=(20, 255)),
                why="as measured at the rate that all rows share",
            ),
        ),
    ),
)
