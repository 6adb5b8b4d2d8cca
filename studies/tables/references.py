"""What the generated strips say of other networks than SegNeXt, and of parameters. No table of the paper."""

from segnext.config import Model
from studies.declare.study import Row, Study
from studies.declare.subtasks import CHANCE, Prediction, Subtask

_SEEN = "with pixels alone it cannot tell its own strip's mark from another's"


def _one_block(size: str, branches: tuple[int, ...], context: str) -> Model:
    return Model(size, branches=branches, context=context, stages=(1,), head_norm="bn")


STUDY = Study(
    slug="references",
    number="References (generated data)",
    caption=(
        "Controls of the diagnostic data set: a task that MSCA alone could solve would say little, and a row with "
        "fewer branches also has fewer parameters."
    ),
    panels=(),
    rows=(
        Row("All branches", "full", _one_block("microscope", (7, 11, 21), "none"), {}, "the full row of Table 6"),
        Row("7×7 branch alone", "7x7-wide", _one_block("microscope-wide", (7,), "none"), {}, "as many parameters"),
        Row("11×11 branch alone", "11x11-wide", _one_block("microscope-wide", (11,), "none"), {}, "as many parameters"),
        Row("Self-attention", "self-attention", _one_block("microscope", (), "nl"), {}, "non-local, without positions"),
        Row(
            "Plain pyramid",
            "pyramid",
            Model("micro", branches=(), attention=False, decoder="a"),
            {},
            "MSCAN without strips and product, every stage to the decoder, as U-Net has it",
        ),
    ),
    notes=("The rows are micro models: 15 to 16 thousand parameters, the pyramid 202 thousand.",),
    subtasks=(
        Subtask(
            "diagnostic/strips",
            rows=("full", "7x7-wide", "11x11-wide", "self-attention", "pyramid"),
            predictions=(
                Prediction("7x7-wide", "full", "-", "width does not replace reach", distances=(32, 60)),
                Prediction("7x7-wide", "full", "0", "the mark is near", distances=(1, 16)),
                Prediction("11x11-wide", "full", "-", "width does not replace reach", distances=(40, 60)),
                Prediction("11x11-wide", "full", "0", "the mark is near", distances=(1, 32)),
                Prediction("self-attention", "full", "-", _SEEN, distances=(24, 60)),
                Prediction("pyramid", "full", "0", "its last stages see the whole image", distances=(1, 60)),
            ),
        ),
        Subtask(
            "diagnostic/strips-no-cue",
            rows=("7x7-wide", "11x11-wide", "self-attention", "pyramid"),
            predictions=(
                Prediction("7x7-wide", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("11x11-wide", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("self-attention", CHANCE, "0", "nothing tells the classes apart"),
                Prediction("pyramid", CHANCE, "0", "nothing tells the classes apart"),
            ),
            protocol="quick-full",
        ),
        Subtask(
            "diagnostic/strips-local",
            rows=("full", "7x7-wide", "11x11-wide", "self-attention", "pyramid"),
            predictions=(
                Prediction("7x7-wide", "full", "0", "every pixel tells its own class"),
                Prediction("11x11-wide", "full", "0", "every pixel tells its own class"),
                Prediction("self-attention", "full", "0", "every pixel tells its own class"),
                Prediction("pyramid", "full", "0", "every pixel tells its own class"),
            ),
            protocol="quick-full",
        ),
        *(
            Subtask(
                f"diagnostic/strips at {rate}",
                rows=("full", "7x7-wide", "11x11-wide", "self-attention", "pyramid"),
                predictions=(
                    Prediction("7x7-wide", "full", "-", "as at the rate that all rows share", distances=(32, 60)),
                    Prediction("11x11-wide", "full", "-", "as at the rate that all rows share", distances=(40, 60)),
                    Prediction("self-attention", "full", "-", "as at the rate that all rows share", distances=(24, 60)),
                    Prediction("pyramid", "full", "0", "as at the rate that all rows share", distances=(1, 60)),
                ),
                protocol="quick-full",
            )
            for rate in ("0.001", "0.004", "0.016")
        ),
    ),
)
