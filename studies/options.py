"""Words that several commands understand, and how their values are read."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from segnext.config import COMPILERS, PRECISIONS
from studies.protocols import PROTOCOLS

COMPUTED = ("precision", "compile", "cudnn_benchmark", "deterministic")
SELECTOR = "STUDY[/ROW][@seed]"


def add_selection(parse: argparse.ArgumentParser) -> None:
    """The options that narrow what the selectors name."""
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
    """Where the data is."""
    parse.add_argument(
        "--data-root",
        type=Path,
        default=os.environ.get("SEGNEXT_DATA") or None,
        metavar="DIR",
        help="the dataset's folder (default: $SEGNEXT_DATA)",
    )


def add_execution(parse: argparse._ActionsContainer) -> None:
    """How a training step is computed; what is not typed is left to the profile, or to `Execution`'s default."""
    parse.add_argument(
        "--precision", choices=PRECISIONS, help="float32 proper, TF32, or autocast to half precision (default: float32)"
    )
    parse.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        choices=COMPILERS[1:],
        help="torch.compile (inductor: if nothing is named), CUDA graphs of steps, or both; eager where that fails",
    )
    flag = argparse.BooleanOptionalAction
    parse.add_argument("--cudnn-benchmark", action=flag, help="let cuDNN time its algorithms (default: it does)")
    parse.add_argument("--deterministic", action=flag, help="the same bits every time, slower on CUDA (default: no)")


def computed(options: argparse.Namespace) -> dict[str, Any]:
    """What was typed of `add_execution`'s options."""
    typed = {name: getattr(options, name) for name in COMPUTED}
    return {name: value for name, value in typed.items() if value is not None}


def words_of(text: str) -> list[str]:
    """`A,B`."""
    return [word for word in text.split(",") if word]


def numbers(text: str) -> tuple[int, ...]:
    """`0,1,2` and `0-9`: whole numbers and ranges of them."""
    found: list[int] = []
    for word in text.split(","):
        matched = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if matched is None or (matched[2] and int(matched[2]) < int(matched[1])):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds such as 0,1,2 or 0-9")
        found += range(int(matched[1]), int(matched[2] or matched[1]) + 1)
    return tuple(dict.fromkeys(found))


def number(text: str) -> int:
    """A whole number."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """A positive whole number."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def shown(path: Path) -> str:
    """A path as a person here would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def print_json(data: Any) -> None:
    """Print it for another program, which may have heard enough (`| head`)."""
    try:
        print(json.dumps(data, indent=1, ensure_ascii=False), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does the interpreter complain at its end
