"""Table 11: real-time methods. Run: `python -m studies.run table11`; frames per second: --only speed --device cuda."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Reported, Row, Study

CITYSCAPES = Panel("cityscapes_test", ("miou_ss", "fps"), (768, 1536))

STUDY = Study(
    slug="table11",
    number="Table 11",
    caption=(
        "Comparison with state-of-the-art real-time methods on Cityscapes test dataset. We test our method with a "
        "single RTX-3090 GPU and AMD EPYC 7543 32-core processor CPU. Without using any optimizations, SegNeXt-T can "
        "achieve 25 frames per second (FPS), which meets the requirements of real-time applications."
    ),
    panels=(CITYSCAPES,),
    rows=(
        Reported("ESPNet", CITYSCAPES(60.3, None), "512×1,024"),
        Reported("ESPNetv2", CITYSCAPES(66.2, None), "512×1,024"),
        Reported("ICNet", CITYSCAPES(69.5, None), "1,024×2,048"),
        Reported("DFANet", CITYSCAPES(71.3, None), "1,024×1,024"),
        Reported("BiSeNet", CITYSCAPES(74.6, None), "768×1,536"),
        Reported("BiSeNetv2", CITYSCAPES(75.3, None), "512×1,024"),
        Reported("DF2-Seg", CITYSCAPES(74.8, None), "1,024×2,048"),
        Reported("SwiftNet", CITYSCAPES(75.5, None), "1,024×2,048"),
        Reported("SFNet", CITYSCAPES(77.8, None), "1,024×2,048"),
        Row("SegNeXt-T", "t", Model("T"), CITYSCAPES(78.0, 25), "768×1,536"),
    ),
    claims=(
        Claim(
            "t11-fps",
            "t",
            "t",
            "fps",
            None,
            "25 frames a second at 768×1536 on one RTX 3090 (Sec. 4.3)",
            kind="at least",
        ),
        Claim("t11-T-sfnet", "t", "sfnet", "miou_ss", 0.2, "above all other real-time methods (Sec. 4.3)"),
    ),
    timed={f"SegNeXt-{size}": Model(size) for size in "TSBL"},
    notes=(
        "The mIoU is the test server's; its labels are not public. The paper does not say whether it is single-scale "
        "(taken so), nor whether the validation images were trained on, and prints no cost.",
    ),
)
