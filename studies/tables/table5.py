"""Table 5: global context for the decoder. Run: `python -m studies.run table5`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study
from studies.declare.subtasks import CHANCE, MICROSCOPE, Prediction, Subtask

ADE = Panel("ade20k")

_CC = (
    "CC is CCNet's attention by the field's standard definition (query and key of C/8, applied twice with shared "
    "weights) in Ham's place. No definition that was tried gives both printed costs: with an output convolution "
    "27.70 M and 33.94 G, with Ham's two convolutions 27.96 M and 35.02 G, two modules 27.77 M and 32.87 G, those "
    "applied twice 27.77 M and 35.56 G. Its products are einsums, which the paper's tool does not count (0.60 G)."
)
_CLOSE = "Ham gives the best trade-off: close to non-local (0.1 below) at less computation"

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
        Claim("t5-ham-cc-miou_ss", "ham", "cc", "miou_ss", 1.2, "Ham above CC (Sec. 4.2, global context)"),
        Claim("t5-ham-cc-miou_ms", "ham", "cc", "miou_ms", 1.3, "Ham above CC (Sec. 4.2, global context)"),
        Claim("t5-ham-ema-miou_ss", "ham", "ema", "miou_ss", 0.5, "Ham above EMA (Sec. 4.2, global context)"),
        Claim("t5-ham-ema-miou_ms", "ham", "ema", "miou_ms", 0.8, "Ham above EMA (Sec. 4.2, global context)"),
        Claim("t5-ham-nl-miou_ss", "ham", "nl", "miou_ss", -0.1, _CLOSE, kind="equivalent"),
        Claim("t5-ham-nl-miou_ms", "ham", "nl", "miou_ms", -0.1, _CLOSE, kind="equivalent"),
        Claim("t5-ham-nl-gflops", "nl", "ham", "gflops", 6.0, "Ham costs less than non-local, O(n) against O(n²)"),
    ),
    subtasks=(
        # The encoder without strips sees 20 pixels: what lies farther, the decoder's module has to bring.
        Subtask(
            "diagnostic/key",
            rows=("cc", "ema", "nl", "ham"),
            predictions=(
                Prediction("cc", "ham", "-", "Ham above CC (Sec. 4.2)", "paper", (20, 255)),
                Prediction("ema", "ham", "-", "Ham above EMA (Sec. 4.2)", "paper", (20, 255)),
                Prediction("nl", "ham", "0", "Ham close to non-local (Sec. 4.2)", "paper", (20, 255)),
            ),
            changes={**MICROSCOPE, "branches": ()},
        ),
        Subtask(
            "diagnostic/gate",
            rows=("cc", "ema", "nl", "ham"),
            predictions=(
                Prediction("cc", "ham", "0", "the ring is near: no context from elsewhere is needed"),
                Prediction("ema", "ham", "0", "the ring is near: no context from elsewhere is needed"),
                Prediction("nl", "ham", "0", "the ring is near: no context from elsewhere is needed"),
            ),
            changes={**MICROSCOPE, "branches": ()},
        ),
        Subtask(
            "diagnostic/key-no-cue",
            rows=("cc", "ema", "nl", "ham"),
            predictions=(
                Prediction("cc", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("ema", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("nl", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("ham", CHANCE, "0", "nothing tells the classes apart"),
            ),
            changes={**MICROSCOPE, "branches": ()},
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/key-local",
            rows=("cc", "ema", "nl", "ham"),
            predictions=(
                Prediction("cc", "ham", "0", "every pixel tells its own class"),
                Prediction("ema", "ham", "0", "every pixel tells its own class"),
                Prediction("nl", "ham", "0", "every pixel tells its own class"),
            ),
            changes={**MICROSCOPE, "branches": ()},
            protocol="quick-full",
        ),
        *(
            Subtask(
                f"diagnostic/key at {rate}",
                rows=("cc", "ema", "nl", "ham"),
                predictions=(
                    Prediction("cc", "ham", "0", "as measured at the rate that all rows share", distances=(20, 255)),
                    Prediction("ema", "ham", "-", "as measured at the rate that all rows share", distances=(20, 255)),
                    Prediction("nl", "ham", "0", "as measured at the rate that all rows share", distances=(20, 255)),
                ),
                changes={**MICROSCOPE, "branches": ()},
                protocol="quick-full",
            )
            for rate in ("0.001", "0.004", "0.016")
        ),
    ),
)
