"""What to run next: `python -m studies.next [STUDY ...] [--gpu-hours 200] [--protocol paper-pretrained]`.

The cheapest plan to decide the paper's open claims and levels: the seeds of each, for 80 % power at the printed
difference, and the commands, ordered by claims decided per hour; then what exceeds the budget, and what no budget can
decide. Exit codes: 0 fine, 1 a file is damaged, 2 usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from segnext.config import COMPILERS, PRECISIONS
from segnext.door import Parser, command, print_json, say
from studies.judge.power import POWER
from studies.plan.programme import COMPILE, PRECISION, Line, Programme, Question, deciding, hours_words, programme
from studies.records.store import Store
from studies.records.typed import tell
from studies.tables import studies, study

WIDTH = 80
EAGER = "eager"
ON_ONE_GPU = "--device cuda --max-parallel 1"


@command("python -m studies.next")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parse = Parser(prog="python -m studies.next", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1])
    parse.add_argument("studies", nargs="*", metavar="STUDY", help="plan these studies (default: all)")
    parse.add_argument("--gpu-hours", type=_hours, default=200.0, metavar="H", help="the budget (default: 200)")
    parse.add_argument(
        "--protocol", default="paper-pretrained", help="paper-pretrained (default) or paper: those decide claims"
    )
    parse.add_argument("--precision", choices=PRECISIONS, default=PRECISION, help=f"default: {PRECISION}")
    parse.add_argument(
        "--compile", choices=(EAGER, *COMPILERS[1:]), default=COMPILE, help=f"default: {COMPILE}, the fast way on a GPU"
    )
    parse.add_argument(
        "--with",
        dest="extra",
        type=_words,
        default=shlex.split(ON_ONE_GPU),
        metavar="WORDS",
        help=f"options added to every command: '--cluster slurm --profile lab' (default: '{ON_ONE_GPU}')",
    )
    parse.add_argument("--json", action="store_true", help="as JSON")
    options = parse.parse_args(arguments)
    wanted = [study(name) for name in dict.fromkeys(options.studies)] or list(studies().values())
    store = Store()
    found = programme(
        wanted,
        deciding(options.protocol),
        options.gpu_hours,
        store,
        precision=options.precision,
        compiled="" if options.compile == EAGER else options.compile,
        extra=options.extra,
    )
    if options.json:
        print_json(as_json(found))
    else:
        for text in _text(found, _Form(sys.stdout.isatty())):
            say(text)
    return tell(store.damage)


def as_json(found: Programme) -> dict[str, Any]:
    """The plan as JSON-ready data for another program."""
    return {**dataclasses.asdict(found), "hours": found.hours}


@dataclass(frozen=True)
class _Form:
    """Lines of 80 columns for a terminal; for a pipe a line a sentence, a command and, with tabs, a question."""

    terminal: bool

    def sentence(self, text: str, indent: str = "") -> Iterable[str]:
        """A sentence, wrapped."""
        return _wrapped(text, indent) if self.terminal else [f"{indent}{text}"]

    def pasted(self, text: str) -> Iterable[str]:
        """A command."""
        return pasted(text) if self.terminal else [f"    {text}"]

    def headings(self) -> str:
        """What stands above all questions."""
        told = f"{'decides':<47}{'printed':>7}{'seeds':>6}{'power':>6}{'half':>5}"
        return told if self.terminal else "\t".join(("step", "decides", "printed", "seeds", "power", "half", "hours"))

    def question(self, step: str, question: Question, hours: str = "") -> str:
        """A question as a line of the table; `hours` are those of this question alone."""
        size = "" if question.difference is None else f"{question.difference:+.1f}"
        if question.kind == "level":
            size = f"±{question.difference:.1f}"
        seeds = "" if question.seeds is None else str(question.seeds)
        power, half = ("" if chance is None else f"{chance:.2f}" for chance in (question.power, question.half))
        if not self.terminal:
            return "\t".join((step, question.name, size, seeds, power, half, hours))
        told = f"  {question.name:<45}{size:>7}{seeds:>6}{power:>6}{half:>5}"
        return f"{told:<72}{hours:>7}{'h' * bool(hours)}".rstrip()


def _text(found: Programme, form: _Form) -> Iterator[str]:
    claims = sum(question.kind != "level" for line in found.lines for question in line.questions)
    levels = sum(len(line.questions) for line in found.lines) - claims
    undecided = claims + sum(question.kind != "level" for question in (*found.beyond, *found.never))
    yield from form.sentence(
        f"Under {found.protocol}, {found.budget:,g} GPU-hours decide {claims} of {undecided} open claims and {levels} "
        f"levels with {100 * POWER:.0f} % power: {hours_words(found.hours)}."
    )
    yield ""
    if found.lines or found.beyond:
        yield form.headings()
    for place, line in enumerate(found.lines, start=1):
        yield from _step(place, line, form)
    yield from _left(found, form)
    yield from form.sentence(_how(found))


def _step(place: int, line: Line, form: _Form) -> Iterator[str]:
    yield f"{place}. {hours_words(line.hours)}{_by(line)}, {line.until:,.1f} so far"
    for question in line.questions:
        yield form.question(str(place), question)
    for text in line.commands:
        yield from form.pasted(text)
    if any(question.dataset.endswith("_test") for question in line.questions):
        yield "    then send the predictions to the test server: python -m studies.evidence"
    yield ""


def _by(line: Line) -> str:
    """How a step's hours were estimated."""
    if not line.hours:
        return ""
    share = round(100 * line.arithmetic / line.hours)
    return {0: " by measured steps", 100: " by arithmetic"}.get(share, f", {share} % of them by arithmetic")


def _left(found: Programme, form: _Form) -> Iterator[str]:
    for kind, title in (("claim", "Claims"), ("level", "Levels")):
        left = [question for question in found.beyond if question.kind == kind]
        if left:
            yield f"{title} beyond the budget, with the hours of each alone:"
            for question in sorted(left, key=lambda one: one.hours):
                yield form.question("", question, f"{question.hours:,.0f}")
            yield ""
    if found.never:
        yield "What no plan decides:"
        for question in found.never:
            yield from form.sentence(f"{question.name}: {question.reason}", "  ")
        yield ""
    if found.elsewhere:
        hint = "; --protocol paper has them" if found.protocol != "paper" else ""
        names = ", ".join(found.elsewhere)
        yield from form.sentence(f"{len(found.elsewhere)} claims are not trained under {found.protocol}: {names}{hint}")
        yield ""


def _how(found: Programme) -> str:
    planned = [question for line in found.lines for question in line.questions]
    spreads = dict.fromkeys(
        f"{question.study} {question.metric} {question.spread.sd:.2f} ({question.spread.words})"
        for question in (*planned, *found.beyond)
        if question.spread and question.spread.source == "records"
    )
    others = dict.fromkeys(
        f"{question.metric} {question.spread.sd:.2f} ({question.spread.words})"
        for question in (*planned, *found.beyond)
        if question.spread and question.spread.source != "records"
    )
    spread = "; ".join((*spreads, *others))
    words = (
        "Power: the chance that a claim's test decides it if the printed difference is true (half: if half of it is), "
        "at 5 % over the claims of its table (Holm's first step); without a printed one, for a difference of the "
        "metric's ±. For a level: the chance of `reproduced` if ours equals the printed value, with the fewest seeds "
        f"whose interval's half-width is within ±. Spread over seeds: {spread or 'not needed'}."
    )
    return f"{words} Hours: {found.hours_from}; only training, on one GPU." if found.hours_from else words


def pasted(text: str, width: int = WIDTH, indent: str = "    ") -> Iterator[str]:
    r"""A command that can be pasted, broken into lines of this width that end in ` \`."""
    line = ""
    for word in shlex.split(text):
        quoted = shlex.quote(word)
        if line and len(indent) + len(line) + 1 + len(quoted) + 2 > width:
            yield f"{indent}{line} \\"
            line = f"  {quoted}"
        else:
            line = f"{line} {quoted}" if line else quoted
    yield f"{indent}{line}"


def _wrapped(text: str, indent: str = "") -> Iterable[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  " if indent else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _hours(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of hours")
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of words: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
