"""Table 6: the parts of MSCA. Run: `python -m studies.run table6`."""

from segnext.config import Model
from studies.study import Claim, Panel, Row, Study

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
)
