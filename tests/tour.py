"""`make tour`: the README opens with the report's answer, and below its commands stands what they print.

A block is ```` ```console ````, a line `$ COMMAND`, then what a terminal of 80 columns shows; with `varies` only the
words of it are held, not its numbers; with `first 12` or `last 5` those lines of it and an ellipsis.
tests/test_readme.py holds the README to what the commands print today.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from terminal import seen

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
SUMMARY = REPOSITORY / "reports" / "summary" / "README.md"  # of `python -m reports.build`
ANSWER = re.compile(r"(?<=a test compares -->\n)(?:.*\n)*?(?=<!-- end of the answer -->)")
BLOCK = re.compile(
    r"^```console(?P<varies> varies)?(?: (?P<end>first|last) (?P<most>\d+))?\n\$ (?P<command>.+)\n"
    r"(?P<output>(?:.*\n)*?)```$",
    re.MULTILINE,
)
TIMES = re.compile(r"\d[\d.,:]*(?= ?(?:s|ms|min|seconds|minutes|images/s)\b)")


@dataclass(frozen=True)
class Block:
    """A command of the README, and what it printed when the README was written."""

    command: str
    output: str
    varies: bool
    end: str = ""
    """`first` or `last`: only that many lines are shown."""
    most: int = 0

    @classmethod
    def of(cls, match: re.Match[str]) -> Block:
        """As it stands in the README."""
        words = match["command"], match["output"], bool(match["varies"])
        return cls(*words, match["end"] or "", int(match["most"] or 0))

    def shown(self, folder: Path) -> str:
        """What the command prints there today, as much of it as the block shows."""
        lines = run(self.command, folder).splitlines(keepends=True)
        if not self.end or len(lines) <= self.most:
            return "".join(lines)
        return "".join([*lines[: self.most], "...\n"] if self.end == "first" else ["...\n", *lines[-self.most :]])

    def alike(self, output: str) -> bool:
        """Whether an output is this one, but for times, and where it varies for every number."""
        hidden = re.compile(r"[\d.,:/%#━╸╺ -]+") if self.varies else TIMES
        return hidden.sub("0", self.output) == hidden.sub("0", output)


def blocks(text: str) -> list[Block]:
    """The README's blocks, in their order."""
    return list(map(Block.of, BLOCK.finditer(text)))


def answer() -> str:
    """The answer that reports/summary/README.md opens with."""
    return SUMMARY.read_text(encoding="utf-8").partition("\n\n")[2].partition("\n## ")[0].strip()


def answered(text: str) -> str:
    """The README with today's answer."""
    return ANSWER.sub(lambda _: answer().replace("](", "](reports/summary/") + "\n", text)


def checkout(folder: Path) -> Path:
    """A copy of what git tracks, for commands that write; runs of its own, results as committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def run(command: str, folder: Path) -> str:
    """What a terminal of 80 columns without colours shows there; raises if the command fails."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SEGNEXT_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = seen(["bash", "-o", "pipefail", "-c", command], folder, environment)
    if done.code:
        raise RuntimeError(f"{command}: exit code {done.code}\n{done.errors}{done.shown}")
    return "".join(f"{line.rstrip()}\n" for line in done.shown.splitlines())


def main() -> None:
    """Paste today's answer and output."""
    import tempfile

    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = checkout(Path(name))

        def pasted(match: re.Match[str]) -> str:
            return match[0].removesuffix(f"{match['output']}```") + f"{Block.of(match).shown(folder)}```"

        README.write_text(BLOCK.sub(pasted, answered(text)), encoding="utf-8")


if __name__ == "__main__":
    main()
