"""Table 7: the three decoders of Fig. 3. Run: `python -m studies.run table7`."""

from segnext.config import Model
from studies.study import Claim, Row, Study

STUDY = Study(
    slug="table7",
    number="Table 7",
    caption=(
        "Performance of different decoder structures. SegNeXt-T (a) means Fig. 3 (a) is used in decoder. FLOPs are "
        "calculated using the input size of 512×512. SegNeXt-T (c) w/ stage 1 means the output of stage 1 is also "
        "sent into the decoder."
    ),
    dataset="ade20k",
    rows=(
        Row(
            "SegNeXt-T (a)",
            "a",
            Model("T", decoder="a"),
            {"params_m": 4.4, "gflops": 10.0, "miou_ss": 40.3, "miou_ms": 41.1},
            note=(
                "Official code: the release's own SegFormer head, 256 channels, BN. The printed 4.4 M is "
                "SegFormer's public head (10.05 G) with the classifier counted that it inherits and never uses."
            ),
        ),
        Row(
            "SegNeXt-T (b)",
            "b",
            Model("T", decoder="b"),
            {"params_m": 4.2, "gflops": 4.9, "miou_ss": 30.9, "miou_ms": 40.6},
            note=(
                "The printed costs are those of the light Ham head on stage 4 alone. SS 30.9 against MS 40.6 is "
                "probably a misprint of 39.9: every other row gains 0.8 to 1.5 from multi-scale testing."
            ),
        ),
        Row(
            "SegNeXt-T (c)",
            "c",
            Model("T", decoder="c"),
            {"params_m": 4.3, "gflops": 6.6, "miou_ss": 41.1, "miou_ms": 42.2},
            note="Table 8 prints 41.0 / 42.5 for the same model.",
        ),
        Row(
            "SegNeXt-T (c) w/ stage 1",
            "c-stage1",
            Model("T", decoder="c", stages=(1, 2, 3, 4)),
            {"params_m": 4.3, "gflops": 12.1, "miou_ss": 40.7, "miou_ms": 42.2},
        ),
    ),
    claims=(
        Claim("t7-c-a-miou_ss", "c", "a", "miou_ss", 0.8, "decoder (c) above (a)"),
        Claim("t7-c-a-miou_ms", "c", "a", "miou_ms", 1.1, "decoder (c) above (a)"),
        Claim("t7-c-b-miou_ss", "c", "b", "miou_ss", 10.2, "decoder (c) above (b)"),
        Claim("t7-c-b-miou_ms", "c", "b", "miou_ms", 1.6, "decoder (c) above (b)"),
        Claim(
            "t7-stage1-miou_ss",
            "c",
            "c-stage1",
            "miou_ss",
            0.4,
            "stage 1 carries too much low-level information and hurts (Sec. 3.2)",
        ),
        Claim(
            "t7-stage1-miou_ms",
            "c",
            "c-stage1",
            "miou_ms",
            0.0,
            "multi-scale testing shows no difference (42.2 both)",
            kind="equivalent",
        ),
        Claim("t7-stage1-gflops", "c-stage1", "c", "gflops", 5.5, "stage 1 brings heavy computation (Sec. 3.2)"),
    ),
)
