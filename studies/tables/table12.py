"""Table 12: Pascal Context. Run: `python -m studies.run table12`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Reported, Row, Study

CONTEXT = Panel("pascal_context")

_WHY = CONTEXT.why(
    gflops=(
        "The column repeats ADE20K's numbers, counted with 150 classes; the printed parameters are those of Pascal "
        "Context's 59 (or 60), whose last layers count less."
    )
)

STUDY = Study(
    slug="table12",
    number="Table 12",
    caption=(
        "Comparison on Pascal Context benchmark. The number of FLOPs is calculated with the input size of 512×512. * "
        "means ImageNet-22K pretraining. † denotes ADE20K pretraining."
    ),
    panels=(CONTEXT,),
    rows=(
        Reported("PSPNet (ResNet101)", CONTEXT(None, None, None, 47.8)),
        Reported("DANet (ResNet101)", CONTEXT(69.1, 277.7, None, 52.6)),
        Reported("EMANet (ResNet101)", CONTEXT(61.1, 246.1, None, 53.1)),
        Reported("HamNet (ResNet101)", CONTEXT(69.1, 277.9, None, 55.2)),
        Reported(
            "HRNet(OCR) (HRNetW48)",
            CONTEXT(74.5, None, None, 56.2),
            also={"Sec. 4.3": CONTEXT(None, None, None, 56.3)},
        ),
        Reported("DeepLabV3+ (ResNeSt-269)", CONTEXT(None, None, None, 58.9)),
        Reported("SETR-PUP (ViT-Large, IN-22K)", CONTEXT(317.8, None, 54.4, 55.3)),
        Reported("SETR-MLA (ViT-Large, IN-22K)", CONTEXT(309.5, None, 54.9, 55.8)),
        Reported("HRFormer-B", CONTEXT(56.2, 280.0, 57.6, 58.5)),
        Reported("DPT-Hybrid (ADE20K pretraining)", CONTEXT(124.0, None, None, 60.5)),
        Row("SegNeXt-T", "t", Model("T"), CONTEXT(4.2, 6.6, 51.2, 53.3), why=_WHY),
        Row("SegNeXt-S", "s", Model("S"), CONTEXT(13.9, 15.9, 54.2, 56.1), why=_WHY),
        Row("SegNeXt-B", "b", Model("B"), CONTEXT(27.6, 34.9, 57.0, 59.0), why=_WHY),
        Row("SegNeXt-L", "l", Model("L"), CONTEXT(48.8, 70.0, 58.7, 60.3), why=_WHY),
        Row(
            "SegNeXt-L (ADE20K pretraining)",
            "l-ade20k",
            Model("L"),
            CONTEXT(48.8, 70.0, 59.2, 60.9),
            why=_WHY,
            pretraining="ade20k",
        ),
    ),
    claims=(
        Claim(
            "t12-L-hrnet", "l", "hrnet-ocr-hrnetw48", "miou_ms", 4.1, "above HRNet (OCR) (Sec. 4.3: 60.3 against 56.3)"
        ),
    ),
    notes=("The paper does not say whether the background is scored: 59 classes, as in the rows it compares with.",),
)
