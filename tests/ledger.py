"""The ledger of what was predicted: `studies/tables/predictions.json`, each value with the commit that first had it.

`make predictions` adds what is declared and not yet in it, and names the commits that it can: a commit cannot name
itself, so a new prediction has none until the next call. It edits nothing else, nor do you: a record is held to what
was predicted at the commit that made it. What a commit predicted is asked of its own code.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
FILE = "studies/tables/predictions.json"
DECLARED_IN = ("studies/tables", "studies/declare", "studies/subtasks.py", "studies/expectations.py")  # today, formerly

Said = Mapping[str, Any]
"""What one prediction or expectation says: its study, its sub-task (of a prediction), and its fields."""

# Runs in the code of any commit since the first prediction: names that have changed are looked for under both.
_ASK = """
import dataclasses, importlib, importlib.util, json, pkgutil
import studies.tables

said = []
for module in pkgutil.iter_modules(studies.tables.__path__):
    study = getattr(importlib.import_module(f"studies.tables.{module.name}"), "STUDY", None)
    for panel in getattr(study, "subtasks", ()):
        name = getattr(panel, "key", panel.dataset).removeprefix("diagnostic/")
        for one in panel.predictions:
            said.append({"study": study.slug, "subtask": name, **dataclasses.asdict(one)})
for name in ("studies.declare.expectations", "studies.expectations"):
    if importlib.util.find_spec(name.rpartition(".")[0]) and importlib.util.find_spec(name):
        said += [dataclasses.asdict(one) for one in importlib.import_module(name).EXPECTATIONS]
print(json.dumps(said))
"""


@dataclass(frozen=True)
class Entry:
    """A line of the ledger. `words` is the canonical text of what is said, by which entries are compared."""

    words: str
    commit: str | None  # None until it is committed

    @cached_property
    def said(self) -> Said:
        """What is predicted."""
        found: Said = json.loads(self.words)
        return found

    def is_about(self, study: str, row: str, subtask: str | None = None) -> bool:
        """Whether a run of this row is held against it; `subtask` None: of what is expected on photographs."""
        said = self.said
        place = (said["study"], said.get("subtask"))
        rows = {said["row"]} if subtask else {said["row"], said["reference"]}
        return place == (study, subtask) and row in rows


def words(said: Said) -> str:
    """The canonical text of a prediction."""
    return json.dumps(said, sort_keys=True, ensure_ascii=False)


def read(text: str) -> list[Entry]:
    """The entries of a ledger, in their order."""
    return [Entry(words(line), commit) for line in json.loads(text) for commit in [line.pop("commit")]]


def entries() -> list[Entry]:
    """Those of today's ledger."""
    path = REPOSITORY / FILE
    return read(path.read_text(encoding="utf-8")) if path.exists() else []


def declared(folder: Path = REPOSITORY) -> list[Said]:
    """Everything that the code in a folder predicts, in its order."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _ASK], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    found: list[Said] = json.loads(done.stdout)
    return found


@cache
def declared_at(commit: str) -> frozenset[str]:
    """The words of everything that was predicted at a commit: by its ledger where it had one, else by its code."""
    if (ledger := git("show", f"{commit}:{FILE}")) is not None:
        return frozenset(entry.words for entry in read(ledger))
    return predicted_by_the_code_of(commit)


@cache
def predicted_by_the_code_of(commit: str) -> frozenset[str]:
    """The words of everything that a commit's declarations predict; nothing before the first study was declared."""
    asked = ["git", "archive", "--format=zip", commit, "segnext", "studies"]
    done = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode:
        return frozenset()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder)
        return frozenset(map(words, declared(Path(folder))))


def is_ancestor(commit: str, of: str) -> bool:
    """Whether one commit is another, or came before it."""
    return git("merge-base", "--is-ancestor", commit, of) is not None


def unproven(ledger: Iterable[Entry]) -> list[Entry]:
    """The entries whose commit the history does not have, or that their commit did not predict."""
    return [
        entry
        for entry in ledger
        if entry.commit is not None
        and (not is_ancestor(entry.commit, "HEAD") or entry.words not in predicted_by_the_code_of(entry.commit))
    ]


def not_predicted_before(commit: str, ledger: Iterable[Entry]) -> list[Entry]:
    """The entries that a run of this commit's code is older than."""
    return [entry for entry in ledger if entry.commit is None or not is_ancestor(entry.commit, commit)]


def has_history() -> bool:
    """Whether this is a git checkout with all of its commits."""
    return git("rev-parse", "--is-shallow-repository") == "false\n"


@cache
def git(*arguments: str) -> str | None:
    """What git prints; None where it fails."""
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def main() -> int:
    """Brings the ledger up to date; returns the exit code."""
    today = {words(said): said for said in declared()}
    commits = {entry.words: entry.commit for entry in entries()}
    if gone := set(commits) - set(today):
        print("error: in the ledger and no longer declared; a prediction is never edited:", *sorted(gone), sep="\n")
        return 1
    added = len(today) - len(commits)
    for commit in (git("rev-list", "--reverse", "HEAD", "--", *DECLARED_IN) or "").split():
        if unnamed := {one for one in today if commits.get(one) is None}:
            commits |= dict.fromkeys(unnamed & predicted_by_the_code_of(commit), commit)
    lines = (json.dumps({"commit": commits.get(one), **said}, ensure_ascii=False) for one, said in today.items())
    (REPOSITORY / FILE).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    unnamed = [one for one in today if commits.get(one) is None]
    print(f"{FILE}: {len(today)} predictions, {added} of them new")
    if unnamed:
        print(f"{len(unnamed)} are not committed yet: run this again after the commit, before the runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
