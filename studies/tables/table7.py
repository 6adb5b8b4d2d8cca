"""Table 7: the three decoders of Fig. 3. Run: `python -m studies.run table7`."""

from segnext.config import Model
from studies.declare.study import Claim, Panel, Row, Study, claims
from studies.declare.subtasks import above, at_rates, below, controls, micro, subtask

ADE = Panel("ade20k")

_HURTS = "stage 1 carries too much low-level information and hurts"
_NO_DIFFERENCE = "multi-scale testing shows no difference (42.2 both)"
_DISCS = "large discs of one colour: no decoder's grid is too coarse"

STUDY = Study(
    slug="table7",
    number="Table 7",
    caption=(
        "Performance of different decoder structures. SegNeXt-T (a) means Fig. 3 (a) is used in decoder. FLOPs are "
        "calculated using the input size of 512×512. SegNeXt-T (c) w/ stage 1 means the output of stage 1 is also "
        "sent into the decoder."
    ),
    panels=(ADE,),
    rows=(
        Row(
            "SegNeXt-T (a)",
            "a",
            Model("T", decoder="a"),
            ADE(4.4, 10.0, 40.3, 41.1),
            note="Official code: the release's own SegFormer head, 256 channels, BN.",
            why=ADE.why(
                params_m=(
                    "4.4 counts a layer that is never used: SegFormer's public head with the classifier that it "
                    "inherits has 4.356 M (128 channels) or 4.375 M (256)."
                ),
                gflops="SegFormer's public head counts 10.052 G, 0.002 G past where 10.0 would be printed.",
            ),
        ),
        Row(
            "SegNeXt-T (b)",
            "b",
            Model("T", decoder="b"),
            ADE(4.2, 4.9, 30.9, 40.6),
            note=(
                "The printed costs are those of the light Ham head on stage 4 alone. SS 30.9 against MS 40.6 is "
                "probably a misprint of 39.9: every other row gains 0.8 to 1.5 from multi-scale testing."
            ),
        ),
        Row(
            "SegNeXt-T (c)",
            "c",
            Model("T", decoder="c"),
            ADE(4.3, 6.6, 41.1, 42.2),
            also={"Table 8": ADE(None, None, 41.0, 42.5)},
        ),
        Row(
            "SegNeXt-T (c) w/ stage 1",
            "c-stage1",
            Model("T", decoder="c", stages=(1, 2, 3, 4)),
            ADE(4.3, 12.1, 40.7, 42.2),
        ),
    ),
    claims=(
        *claims("t7-c-a", "c", "a", "decoder (c) above (a)", ADE(None, None, 0.8, 1.1)),
        *claims("t7-c-b", "c", "b", "decoder (c) above (b)", ADE(None, None, 10.2, 1.6)),
        Claim("t7-stage1-miou_ss", "c", "c-stage1", "miou_ss", 0.4, f"{_HURTS} (Sec. 3.2)"),
        Claim("t7-stage1-miou_ms", "c", "c-stage1", "miou_ms", 0.0, _NO_DIFFERENCE, kind="equivalent"),
        Claim("t7-stage1-gflops", "c-stage1", "c", "gflops", 5.5, "stage 1 brings heavy computation (Sec. 3.2)"),
    ),
    # `--protocol quick` trains this table on the mixed scene: `make demo`.
    subtasks=micro(
        {"size": "micro"},
        quick_full=(
            subtask(
                "fine",
                below("c-stage1", "c", _HURTS, source="paper"),
                above("c-stage1", "c", "at stride 8 lines of 2 pixels are lost", (1, 2)),
                below("a", "c", "decoder (c) above (a)", source="paper"),
                below("b", "c", "decoder (c) above (b)", source="paper"),
            ),
            *controls("key", ("a", "b", "c", "c-stage1"), "c", local=_DISCS, order=("local", "no-cue")),
            *at_rates(
                "fine",
                above("c-stage1", "c"),
                above("a", "c"),
                below("b", "c"),
                why="as measured at the rate that all rows share",
            ),
        ),
    ),
)
