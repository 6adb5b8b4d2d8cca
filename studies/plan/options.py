"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from segnext.config import COMPILERS, PRECISIONS
from segnext.door import typed_path
from studies.declare.protocols import PROTOCOLS

MOST_NUMBERS = 1000
"""Most numbers in a list or a range: more are a typing error, and their plan would fill the memory."""

MOST = 999_999_999
"""The largest number that is accepted."""

COMPUTED = ("precision", "compile", "cudnn_benchmark", "deterministic")
SELECTOR = "STUDY[/ROW][@seed]"


def add_selection(parse: argparse.ArgumentParser) -> None:
    """Add the options that narrow the selection."""
    parse.add_argument("--protocol", default="paper", help=f"one of {', '.join(PROTOCOLS)} (default: paper)")
    parse.add_argument("--rows", type=words_of, metavar="A,B", help="only these rows, by slug")
    parse.add_argument("--seeds", type=numbers, metavar="0,1,2", help="or a range, 0-9 (default: the protocol's)")
    parse.add_argument(
        "--limit-iterations",
        type=positive,
        metavar="N",
        help="end every run's schedule after N iterations; such runs are runs of their own",
    )


def add_data_root(parse: argparse.ArgumentParser) -> None:
    """Add --data-root."""
    parse.add_argument(
        "--data-root",
        type=typed_path,
        default=os.environ.get("SEGNEXT_DATA") or None,
        metavar="DIR",
        help="the dataset's folder (default: $SEGNEXT_DATA)",
    )


def add_execution(parse: argparse._ActionsContainer) -> None:
    """Add the options of how a step is computed; without them the profile or the defaults of `Execution` decide."""
    parse.add_argument(
        "--precision", choices=PRECISIONS, help="float32 proper, TF32, or autocast to half precision (default: float32)"
    )
    parse.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        choices=COMPILERS[1:],
        help="torch.compile (inductor: if nothing is named), CUDA graphs of steps, or both; eager if that fails",
    )
    flag = argparse.BooleanOptionalAction
    parse.add_argument("--cudnn-benchmark", action=flag, help="let cuDNN time its algorithms (default: it does)")
    parse.add_argument("--deterministic", action=flag, help="the same bits every time, slower on CUDA (default: no)")


def computed(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_execution` that were typed, by name."""
    typed = {name: getattr(options, name) for name in COMPUTED}
    return {name: value for name, value in typed.items() if value is not None}


def words_of(text: str) -> list[str]:
    """The words of `A,B`."""
    return [word for word in text.split(",") if word]


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of `0,1,2` or `0-9`: whole numbers and ranges."""
    found: dict[int, None] = {}
    for word in text.split(","):
        first, dash, last = word.partition("-")
        try:
            ends = number(first), number(last if dash else first)
        except argparse.ArgumentTypeError:
            ends = 1, 0
        if ends[1] < ends[0]:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds such as 0,1,2 or 0-9")
        if ends[1] - ends[0] >= MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"{word} are more than {MOST_NUMBERS:,} seeds")
        found.update(dict.fromkeys(range(ends[0], ends[1] + 1)))
        if len(found) > MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"more than {MOST_NUMBERS:,} seeds")
    return tuple(found)


def number(text: str) -> int:
    """A whole number up to `MOST`, for argparse."""
    if re.fullmatch("[0-9]{1,9}", text.lstrip("0") or "0") is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number up to {MOST:,}")
    return int(text)


def positive(text: str) -> int:
    """A positive whole number, for argparse."""
    if (found := number(text)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return found


def shown(path: Path) -> str:
    """A path as the user would type it from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
