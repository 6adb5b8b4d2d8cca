"""Every command of this project by one name: `segnext COMMAND ...`, the same as `python -m MODULE ...`.

`segnext COMMAND --help` says what it takes. In bash and zsh the Tab key completes commands, options, studies and rows:
`python -m pip install argcomplete`, and in the shell `eval "$(register-python-argcomplete segnext)"`.
Exit codes: those of the command; 2 where there is no such command.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from segnext.door import USAGE, Parser, command

# In the order of work. What stands above this floor is found by name alone, as by whoever types it.
COMMANDS = {
    "list": "studies.list",
    "run": "studies.run",
    "status": "studies.status",
    "report": "reports.build",
    "compare": "reports.compare",
    "next": "studies.next",
    "show": "studies.show",
    "logs": "studies.logs",
    "cancel": "studies.cancel",
    "diff": "studies.diff",
    "doctor": "studies.doctor",
    "probe": "studies.probe",
    "gc": "studies.gc",
    "export": "studies.export",
    "published": "studies.published",
    "evidence": "studies.evidence",
    "figures": "studies.figures",
    "shortcuts": "studies.shortcuts",
    "predict": "segnext.predict",
    "weights": "segnext.weights",
    "data": "segnext.data",
}
WIDTH = 80
SELECTORS = re.compile(r"RUN|STUDY(\[?/ROW\]?)?(\[@seed\])?")  # what positional words are called that name rows


@command("segnext")
def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command that is named first; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "_ARGCOMPLETE" in os.environ:
        return _complete()
    if words and words[0] in COMMANDS and source(COMMANDS[words[0]]):
        return _carry_out(words[0], words[1:])
    parse = _parser()
    if not words:
        parse.print_help()
        return USAGE
    named = parse.parse_args(words[:1]).command
    near = difflib.get_close_matches(named, COMMANDS, 1)
    raise ValueError(f"there is no command {named!r}" + (f"; did you mean {near[0]}?" if near else "; see --help"))


def _carry_out(name: str, words: Sequence[str]) -> int:
    module = COMMANDS[name]
    path = source(module)
    code: int = import_module(f"{module}.__main__" if path and path.stem == "__main__" else module).main(words)
    return code


def source(module: str) -> Path | None:
    """The file that `python -m` runs, of a package its `__main__`; None where this installation does not have it."""
    base = Path(__file__).resolve().parents[1].joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__main__.py") if path.is_file()), None)


def lines() -> dict[str, str]:
    """What each command is for: the first sentence of its module, without the command itself. Nothing is imported."""
    found = {}
    for name, module in COMMANDS.items():
        if path := source(module):
            text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
            before, _, after = " ".join(text.partition("\n\n")[0].split()).partition("`python -m ")
            first = re.split(r"[.]\s", before.strip(" :") or after.partition("`")[2].strip(" :"))[0]
            found[name] = first[:1].upper() + first[1:].rstrip(".")
    return found


def _parser() -> Parser:
    parse = Parser.of("segnext", __doc__)
    parse.formatter_class = argparse.RawDescriptionHelpFormatter
    said = lines()
    wide = max(map(len, said)) + 4
    shown = {name: textwrap.shorten(what, WIDTH - wide, placeholder=" ...") for name, what in said.items()}
    table = (f"  {name:<{wide - 2}}{what}" for name, what in shown.items())
    parse.description = "\n".join([*textwrap.wrap(" ".join((parse.description or "").split()), WIDTH), "", *table])
    parse.epilog = textwrap.fill(parse.epilog or "", WIDTH)
    parse.add_argument("command", metavar="COMMAND", help="one of the above, and its own words")
    return parse


# The Tab key


def _complete() -> int:
    """Answer the shell: argcomplete asks the parser that the words so far lead to, which nothing else is done with."""
    try:
        import argcomplete
    except ModuleNotFoundError:
        return 0
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))]
    _, _, _, typed, _ = argcomplete.split_line(line)
    before = typed[1:]

    def answer(parser: Parser, words: Sequence[str]) -> None:
        for action in parser._actions:
            if SELECTORS.fullmatch(str(action.metavar)):
                action.completer = _selectors  # type: ignore[attr-defined]
            elif action.dest == "protocol":
                action.completer = _protocols  # type: ignore[attr-defined]
            elif action.dest == "command":
                action.completer = lambda prefix, **_: list(lines())  # type: ignore[attr-defined]
        # The parser's own words are the last of what was typed.
        os.environ["_ARGCOMPLETE"] = str(1 + len(before) - len(words))
        argcomplete.autocomplete(parser)

    Parser.asked = answer
    if before and before[0] in COMMANDS and source(COMMANDS[before[0]]):
        return _carry_out(before[0], before[1:])
    _parser().parse_args(before)
    return 0


def _selectors(prefix: str, **_: Any) -> Iterable[str]:
    """Studies, and the rows of one whose name is whole."""
    from studies.tables import studies

    slug, slash, _row = prefix.partition("/")
    rows = [f"{slug}/{row.slug}" for row in studies()[slug].trained] if slug in studies() else []
    return rows if slash else [*studies(), *rows]


def _protocols(**_: Any) -> Iterable[str]:
    from studies.declare.protocols import PROTOCOLS

    return list(PROTOCOLS)


if __name__ == "__main__":
    sys.exit(main())
