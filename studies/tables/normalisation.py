"""Sec. 3.1: BN or LN in the encoder's blocks; and what the head's GN does beside Ham. No table of the paper."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study
from studies.declare.subtasks import CHANCE, Prediction, Subtask

ADE = Panel("ade20k")

STUDY = Study(
    slug="normalisation",
    number="Normalisation (Sec. 3.1)",
    caption=(
        "In each building block of MSCAN, we use batch normalization instead of layer normalization as we found batch "
        "normalization gains more for the segmentation performance."
    ),
    panels=(ADE,),
    rows=(
        Row("SegNeXt-T", "t", Model("T"), {}, "BN in blocks; Ham, GN in the head"),
        Row("SegNeXt-T, LN in blocks", "ln", Model("T", encoder_norm="ln"), {}),
        Row("SegNeXt-T, BN in the head", "head-bn", Model("T", head_norm="bn"), {}),
        Row("SegNeXt-T without Ham", "none", Model("T", context="none"), {}, "GN in the head"),
        Row("SegNeXt-T without Ham, BN in the head", "none-head-bn", Model("T", context="none", head_norm="bn"), {}),
    ),
    claims=(
        Claim(
            "text-bn-ln",
            "t",
            "ln",
            "miou_ss",
            None,
            "batch normalization gains more than layer normalization (Sec. 3.1; no number printed)",
        ),
    ),
    notes=(
        "The paper prints no number for this. The last three rows are a control of this project: group normalisation "
        "averages over the whole image and so carries global context by itself, which an ablation of Ham has to tell "
        "apart from Ham.",
    ),
    subtasks=(
        Subtask(
            "diagnostic/key",
            rows=("t", "head-bn", "none", "none-head-bn"),
            predictions=(
                Prediction("none-head-bn", CHANCE, "0", "sees 20 pixels and nothing global", distances=(21, 255)),
                Prediction("head-bn", "none-head-bn", "+", "Ham sees the whole image", distances=(21, 255)),
                Prediction("none", "none-head-bn", "+", "GN averages over the whole image", distances=(21, 255)),
                Prediction("t", "head-bn", "0", "with Ham, GN adds nothing", distances=(21, 255)),
            ),
            changes={"size": "microscope", "stages": (1,), "branches": ()},
        ),
        Subtask(
            "diagnostic/key-no-cue",
            rows=("t", "none", "none-head-bn"),
            predictions=(
                Prediction("t", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("none", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("none-head-bn", CHANCE, "0", "nothing tells the classes apart"),
            ),
            changes={"size": "microscope", "stages": (1,), "branches": ()},
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/key-local",
            rows=("t", "head-bn", "none", "none-head-bn"),
            predictions=(
                Prediction("t", "head-bn", "0", "every pixel tells its own class"),
                Prediction("none", "head-bn", "0", "every pixel tells its own class"),
                Prediction("none-head-bn", "head-bn", "0", "every pixel tells its own class"),
            ),
            changes={"size": "microscope", "stages": (1,), "branches": ()},
            protocol="quick-full",
        ),
        *(
            Subtask(
                f"diagnostic/key at {rate}",
                rows=("t", "head-bn", "none", "none-head-bn"),
                predictions=(
                    Prediction("none-head-bn", CHANCE, "0", "as at the rate that all rows share", distances=(21, 255)),
                    Prediction("none", "none-head-bn", "+", "as at the rate that all rows share", distances=(21, 255)),
                    Prediction("t", "head-bn", "0", "as at the rate that all rows share", distances=(21, 255)),
                ),
                changes={"size": "microscope", "stages": (1,), "branches": ()},
                protocol="quick-full",
            )
            for rate in ("0.001", "0.004", "0.016")
        ),
    ),
)
