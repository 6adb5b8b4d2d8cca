"""Sec. 3.1: BN or LN in the encoder's blocks; and what GN in the head adds to Ham. No table of the paper."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study
from studies.declare.subtasks import above, at_chance, at_rates, controls, equal, micro, subtask

ADE = Panel("ade20k")

_FAR = (21, 255)  # pixels: beyond the encoder's reach

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
    subtasks=micro(
        {"size": "microscope", "stages": (1,), "branches": ()},
        quick=(
            subtask(
                "key",
                at_chance("none-head-bn", "sees 20 pixels and nothing global", _FAR),
                above("head-bn", "none-head-bn", "Ham sees the whole image", _FAR),
                above("none", "none-head-bn", "GN averages over the whole image", _FAR),
                equal("t", "head-bn", "with Ham, GN adds nothing", _FAR),
            ),
        ),
        quick_full=(
            *controls("key", ("t", "none", "none-head-bn"), "head-bn"),  # Table 5 trains Ham (head-bn) without the cue
            *at_rates(
                "key",
                at_chance("none-head-bn", distances=_FAR),
                above("none", "none-head-bn", distances=_FAR),
                equal("t", "head-bn", distances=_FAR),
            ),
        ),
    ),
)
