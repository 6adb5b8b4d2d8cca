"""Table 6: the parts of MSCA. Run: `python -m studies.run table6`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study
from studies.declare.subtasks import CHANCE, WITHOUT_CONTEXT, Prediction, Subtask

IMAGENET = Panel("imagenet1k", ("top1",), (224, 224))
ADE = Panel("ade20k", ("miou_ss",))


def _contributes(part: str, row: str, without: str, top1: float, miou: float) -> tuple[Claim, Claim]:
    """The full MSCA against a row without something, on both datasets."""
    text = f"each part contributes: full MSCA above {without} (Sec. 4.2)"
    return (
        Claim(f"t6-{part}-top1", "full", row, "top1", top1, text, dataset="imagenet1k"),
        Claim(f"t6-{part}-miou_ss", "full", row, "miou_ss", miou, text, dataset="ade20k"),
    )


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
        Row(
            "7×7 Br, 11×11 Br, 21×21 Br, Attention",
            "no-1x1",
            Model("T", channel_mixing=False),
            IMAGENET(74.8) | ADE(39.1),
        ),
        Row(
            "7×7 Br, 11×11 Br, 21×21 Br, 1×1 Conv",
            "no-attention",
            Model("T", attention=False),
            IMAGENET(75.5) | ADE(40.5),
        ),
        Row(
            "7×7 Br, 11×11 Br, 21×21 Br, 1×1 Conv, Attention",
            "full",
            Model("T"),
            IMAGENET(75.9) | ADE(41.1),
            also={"Table 8": ADE(41.0)},
        ),
    ),
    claims=(
        *_contributes("7x7", "7x7", "only the 7x7 branch", 1.2, 1.5),
        *_contributes("11x11", "11x11", "only the 11x11 branch", 0.7, 1.4),
        *_contributes("21x21", "21x21", "only the 21x21 branch", 0.6, 1.1),
        *_contributes("1x1", "no-1x1", "no 1x1 convolution", 1.1, 2.0),
        *_contributes("attention", "no-attention", "no attention product", 0.4, 0.6),
    ),
    notes=(
        "The paper prints no cost here, and does not say whether mIoU is single-scale: 41.1 is the single-scale value "
        "of Tables 7 and 9. The 5×5 convolution of Fig. 2 and the identity branch stay in every row.",
    ),
    subtasks=(
        Subtask(
            "diagnostic/strips",
            rows=("7x7", "11x11", "21x21", "no-1x1", "no-attention", "full"),
            predictions=(
                Prediction("7x7", "full", "0", "the mark is within the reach of every row", distances=(1, 16)),
                Prediction("7x7", "full", "-", "a row with 7x7 alone sees 32 pixels, full sees 60", distances=(32, 60)),
                Prediction("11x11", "full", "0", "11x11 sees 40 pixels", distances=(1, 32)),
                Prediction("11x11", "full", "-", "11x11 alone sees 40 pixels, full 60", distances=(40, 60)),
                Prediction("21x21", "full", "0", "21x21 alone sees as far as all branches", distances=(1, 60)),
                Prediction("no-1x1", "full", "0", "distance alone decides, and the blocks' other 1x1 mix channels"),
                Prediction("no-attention", "full", "0", "distance alone decides, nothing is to be gated"),
                Prediction("full", CHANCE, "0", "no row sees farther than 60 pixels", distances=(61, 255)),
            ),
            changes=WITHOUT_CONTEXT,
        ),
        Subtask(
            "diagnostic/gate",
            rows=("no-1x1", "no-attention", "full"),
            predictions=(
                Prediction("no-attention", "full", "-", "the product lets one map gate another", "paper"),
                Prediction("no-1x1", "full", "0", "one 1x1 convolution stands before and one after MSCA"),
            ),
            changes=WITHOUT_CONTEXT,
        ),
        Subtask(
            "diagnostic/scale",
            rows=("7x7", "21x21", "full"),
            predictions=(
                Prediction("7x7", "full", "-", "objects of several sizes need branches of several sizes", "paper"),
                Prediction("21x21", "full", "-", "objects of several sizes need branches of several sizes", "paper"),
            ),
            changes=WITHOUT_CONTEXT,
        ),
        Subtask(
            "diagnostic/mix",
            rows=("no-1x1", "full"),
            predictions=(
                Prediction("no-1x1", "full", "-", "the 1x1 convolution models relations between channels", "paper"),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/mix-single",
            rows=("no-1x1", "full"),
            predictions=(Prediction("no-1x1", "full", "0", "one channel decides"),),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/gate-additive",
            rows=("no-attention", "full"),
            predictions=(Prediction("no-attention", "full", "0", "a sum decides, no product is needed"),),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/strips-independent",
            rows=("7x7", "11x11", "21x21", "full"),
            predictions=(
                Prediction("7x7", "full", "-", "7x7 alone sees 32 pixels, full 60", distances=(32, 60)),
                Prediction("7x7", CHANCE, "0", "7x7 alone sees 32 pixels, and nothing else tells", distances=(33, 255)),
                Prediction("11x11", "full", "-", "11x11 alone sees 40 pixels, full 60", distances=(40, 60)),
                Prediction("11x11", CHANCE, "0", "11x11 sees 40 pixels, and nothing else tells", distances=(41, 255)),
                Prediction("21x21", "full", "0", "21x21 alone sees as far as all branches", distances=(1, 60)),
                Prediction("full", CHANCE, "0", "no row sees farther than 60 pixels", distances=(61, 255)),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/strips-diagonal",
            rows=("7x7", "21x21", "full"),
            predictions=(
                Prediction("7x7", "full", "-", "1x21 after 21x1 spans a square, its diagonal too", distances=(32, 60)),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/strips-blobs",
            rows=("7x7", "21x21", "full"),
            predictions=(
                Prediction("7x7", "full", "0", "nearly all of a blob is within 32 pixels of its mark"),
                Prediction("21x21", "full", "0", "nearly all of a blob is within 32 pixels of its mark"),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/strips-no-cue",
            rows=("7x7", "11x11", "21x21", "no-1x1", "no-attention", "full"),
            predictions=(
                Prediction("7x7", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("11x11", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("21x21", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("no-1x1", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("no-attention", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("full", CHANCE, "0", "nothing tells the classes apart"),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/strips-local",
            rows=("7x7", "11x11", "21x21", "no-1x1", "no-attention", "full"),
            predictions=(
                Prediction("7x7", "full", "0", "every pixel tells its own class"),
                Prediction("11x11", "full", "0", "every pixel tells its own class"),
                Prediction("21x21", "full", "0", "every pixel tells its own class"),
                Prediction("no-1x1", "full", "0", "every pixel tells its own class"),
                Prediction("no-attention", "full", "0", "every pixel tells its own class"),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/gate-local",
            rows=("no-1x1", "no-attention", "full"),
            predictions=(
                Prediction("no-1x1", "full", "0", "every pixel tells its own class"),
                Prediction("no-attention", "full", "0", "every pixel tells its own class"),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/gate-no-cue",
            rows=("no-1x1", "no-attention", "full"),
            predictions=(
                Prediction("no-1x1", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("no-attention", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("full", CHANCE, "0", "nothing tells the classes apart"),
            ),
            changes=WITHOUT_CONTEXT,
            protocol="quick-full",
        ),
        *(
            Subtask(
                f"diagnostic/strips at {rate}",
                rows=("7x7", "11x11", "21x21", "no-1x1", "no-attention", "full"),
                predictions=(
                    Prediction("7x7", "full", "-", "as at the rate that all rows share", distances=(32, 60)),
                    Prediction("11x11", "full", "-", "as at the rate that all rows share", distances=(40, 60)),
                    Prediction("21x21", "full", "0", "as at the rate that all rows share", distances=(1, 60)),
                    Prediction("no-1x1", "full", "0", "as at the rate that all rows share"),
                    Prediction("no-attention", "full", "0", "as at the rate that all rows share"),
                ),
                changes=WITHOUT_CONTEXT,
                protocol="quick-full",
            )
            for rate in ("0.001", "0.004", "0.016")
        ),
    ),
)
