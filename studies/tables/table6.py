"""Table 6: the parts of MSCA. Run: `python -m studies.run table6`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Printed, Row, Study, claims
from studies.declare.subtasks import WITHOUT_CONTEXT, at_chance, at_rates, below, controls, equal, micro, subtask, twin

IMAGENET = Panel("imagenet1k", ("top1",), (224, 224))
ADE = Panel("ade20k", ("miou_ss",))

_BR = "7×7 Br, 11×11 Br, 21×21 Br"
_BLOBS = "nearly all of a blob is within 32 pixels of its mark"
_MIXES = "the 1x1 convolution models relations between channels"
_SIZES = "objects of several sizes need branches of several sizes"


def _contributes(part: str, row: str, without: str, printed: Printed) -> list[Claim]:
    text = f"each part contributes: full MSCA above {without} (Sec. 4.2)"
    return claims(f"t6-{part}", "full", row, text, printed)


STUDY = Study(
    slug="table6",
    number="Table 6",
    caption=(
        "Ablation study on the design of MSCA. Top-1 means Top-1 accuracy on ImageNet dataset and mIoU denotes mIoU on "
        "ADE20K benchmark. Br: Branch."
    ),
    panels=(IMAGENET, ADE),
    rows=(
        Row("7×7 Br, 1×1 Conv, Attention", "7x7", Model("T", branches=(7,)), IMAGENET(74.7) | ADE(39.6)),
        Row("11×11 Br, 1×1 Conv, Attention", "11x11", Model("T", branches=(11,)), IMAGENET(75.2) | ADE(39.7)),
        Row("21×21 Br, 1×1 Conv, Attention", "21x21", Model("T", branches=(21,)), IMAGENET(75.3) | ADE(40.0)),
        Row(f"{_BR}, Attention", "no-1x1", Model("T", channel_mixing=False), IMAGENET(74.8) | ADE(39.1)),
        Row(f"{_BR}, 1×1 Conv", "no-attention", Model("T", attention=False), IMAGENET(75.5) | ADE(40.5)),
        Row(f"{_BR}, 1×1 Conv, Attention", "full", Model("T"), IMAGENET(75.9) | ADE(41.1), also={"Table 8": ADE(41.0)}),
    ),
    claims=(
        *_contributes("7x7", "7x7", "only the 7x7 branch", IMAGENET(1.2) | ADE(1.5)),
        *_contributes("11x11", "11x11", "only the 11x11 branch", IMAGENET(0.7) | ADE(1.4)),
        *_contributes("21x21", "21x21", "only the 21x21 branch", IMAGENET(0.6) | ADE(1.1)),
        *_contributes("1x1", "no-1x1", "no 1x1 convolution", IMAGENET(1.1) | ADE(2.0)),
        *_contributes("attention", "no-attention", "no attention product", IMAGENET(0.4) | ADE(0.6)),
    ),
    notes=(
        "The paper prints no cost here, and does not say whether mIoU is single-scale: 41.1 is the single-scale value "
        "of Tables 7 and 9. The 5×5 convolution of Fig. 2 and the identity branch stay in every row.",
    ),
    subtasks=micro(
        WITHOUT_CONTEXT,
        quick=(
            subtask(
                "strips",
                equal("7x7", "full", "the mark is within the reach of every row", (1, 16)),
                below("7x7", "full", "a row with 7x7 alone sees 32 pixels, full sees 60", (32, 60)),
                equal("11x11", "full", "11x11 sees 40 pixels", (1, 32)),
                below("11x11", "full", "11x11 alone sees 40 pixels, full 60", (40, 60)),
                equal("21x21", "full", "21x21 alone sees as far as all branches", (1, 60)),
                equal("no-1x1", "full", "distance alone decides, and the blocks' other 1x1 mix channels"),
                equal("no-attention", "full", "distance alone decides, nothing is to be gated"),
                at_chance("full", "no row sees farther than 60 pixels", (61, 255)),
            ),
            subtask(
                "gate",
                below("no-attention", "full", "the product lets one map gate another", source="paper"),
                equal("no-1x1", "full", "one 1x1 convolution stands before and one after MSCA"),
            ),
            subtask("scale", *(below(row, "full", _SIZES, source="paper") for row in ("7x7", "21x21"))),
        ),
        quick_full=(
            subtask("mix", below("no-1x1", "full", _MIXES, source="paper")),
            twin("single", "mix", equal("no-1x1", "full", "one channel decides")),
            twin("additive", "gate", equal("no-attention", "full", "a sum decides, no product is needed")),
            twin(
                "independent",
                "strips",
                below("7x7", "full", "7x7 alone sees 32 pixels, full 60", (32, 60)),
                at_chance("7x7", "7x7 alone sees 32 pixels, and nothing else tells", (33, 255)),
                below("11x11", "full", "11x11 alone sees 40 pixels, full 60", (40, 60)),
                at_chance("11x11", "11x11 sees 40 pixels, and nothing else tells", (41, 255)),
                equal("21x21", "full", "21x21 alone sees as far as all branches", (1, 60)),
                at_chance("full", "no row sees farther than 60 pixels", (61, 255)),
            ),
            twin(
                "diagonal",
                "strips",
                below("7x7", "full", "1x21 after 21x1 spans a square, its diagonal too", (32, 60)),
                unpredicted=("21x21",),
            ),
            twin("blobs", "strips", *(equal(row, "full", _BLOBS) for row in ("7x7", "21x21"))),
            *controls("strips", ("7x7", "11x11", "21x21", "no-1x1", "no-attention", "full"), "full"),
            *controls("gate", ("no-1x1", "no-attention", "full"), "full", order=("local", "no-cue")),
            *at_rates(
                "strips",
                below("7x7", "full", distances=(32, 60)),
                below("11x11", "full", distances=(40, 60)),
                equal("21x21", "full", distances=(1, 60)),
                equal("no-1x1", "full"),
                equal("no-attention", "full"),
            ),
        ),
    ),
)
