"""Someone who submits to the one-machine SLURM as a user does, and looks at what is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from conftest import REPOSITORY

from slurm import PATIENCE, Cluster, wait_until
from studies.declare.protocols import protocol
from studies.facts import files
from studies.plan.runs import PlannedRun, plan, select
from studies.records.store import Store
from studies.records.workspace import Workspace

QUICK = ("--protocol", "quick", "--limit-iterations", "200")  # about ten seconds, a checkpoint in the middle


PROFILE = 'cpus = 1\nmemory = "1500M"\ntime = "00:30:00"\nwarning = 20\n'


@dataclass
class User:
    """Someone at a login node, with folders for results and runs."""

    cluster: Cluster
    folder: Path
    repository: Path = REPOSITORY
    profile: str = PROFILE
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        records = self.folder / "results" / "records"
        records.mkdir(parents=True, exist_ok=True)
        for path in (REPOSITORY / "results" / "records").glob("cost-*.json"):  # no test is about measuring costs
            shutil.copy(path, records)
        (self.folder / "profile.toml").write_text(self.profile)

    def start(self, *words: str, verb: str = "run") -> subprocess.Popen[str]:
        """A command, under way."""
        return subprocess.Popen(
            [sys.executable, "-m", f"studies.{verb}", *words],
            cwd=self.repository,
            env={
                **os.environ,
                **self.cluster.environment,
                "SEGNEXT_RESULTS": str(self.folder / "results"),
                "SEGNEXT_RUNS": str(self.folder / "runs"),
                **self.environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def does(self, *words: str, verb: str = "run", code: int = 0) -> str:
        """A command, done, that ended with this exit code; what it printed."""
        process = self.start(*words, verb=verb)
        told, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, told
        return told

    def submits(self, *words: str, code: int = 0) -> str:
        """`studies.run ... --cluster slurm`."""
        return self.does(*words, "--cluster", "slurm", "--profile", str(self.folder / "profile.toml"), code=code)

    def submission(self, *words: str) -> subprocess.Popen[str]:
        """The same, under way."""
        return self.start(*words, "--cluster", "slurm", "--profile", str(self.folder / "profile.toml"))

    def workspace(self, planned: PlannedRun) -> Workspace:
        """A run's folder, of this user's."""
        workspace = Workspace.__new__(Workspace)
        before = os.environ["SEGNEXT_RUNS"]
        os.environ["SEGNEXT_RUNS"] = str(self.folder / "runs")
        try:
            workspace.__init__(planned.id)  # type: ignore[misc]
        finally:
            os.environ["SEGNEXT_RUNS"] = before
        return workspace

    def causes(self, planned: PlannedRun) -> list[str]:
        """How its attempts ended."""
        return [attempt.cause for attempt in self.workspace(planned).attempts()]

    def states(self, *words: str) -> dict[str, dict]:
        """What `studies.status` says, by row and seed."""
        process = self.start(*words, "--json", verb="status")
        told, _ = process.communicate(timeout=PATIENCE)
        return {f"{line['row']}@{line['seed']}": line for line in json.loads(told[told.index("[") :])}

    def recorded(self, *runs: PlannedRun) -> bool:
        """Whether each has its record."""
        return all((self.folder / "results" / "records" / f"{planned.id}.json").exists() for planned in runs)

    def record(self, planned: PlannedRun) -> dict:
        """What was recorded of a run."""
        return Store(self.folder / "results").records[planned.id]

    def waits_for(self, *runs: PlannedRun) -> None:
        """Until each has its record and its process has left it: only then does its attempt say `done`."""

        def over() -> bool:
            return self.recorded(*runs) and all(self.workspace(planned).owner() is None for planned in runs)

        wait_until(over, lambda: (self.cluster.queue(), self.log(*runs)))

    def trains(self, planned: PlannedRun, least: int = 1) -> None:
        """Until it is known to have trained so many iterations."""

        def far() -> bool:
            progress = self.workspace(planned).progress()
            return progress is not None and (progress.phase.startswith("evaluate") or progress.done >= least)

        wait_until(far, lambda: (self.cluster.queue(), self.log(planned)))
        assert self.workspace(planned).progress().phase == "train", "too late: the training is over"

    def saved(self, planned: PlannedRun, least: int = 100) -> None:
        """Until a state after so many iterations is on disk."""
        wait_until(lambda: self.workspace(planned).last_state() >= least, lambda: self.log(planned))

    def log(self, *runs: PlannedRun) -> str:
        """What the workers printed."""
        logs = [self.workspace(planned).log for planned in runs]
        return "\n".join(path.read_text()[-3000:] for path in logs if path.exists())

    def table(self, study: str = "table7") -> str:
        """The study's CSV, built anew."""
        store = Store(self.folder / "results")
        files.write(store)
        return (self.folder / "results" / f"{study}.csv").read_text()


def runs_of(*selectors: str, protocol_name: str = "quick", limit: int | None = 200) -> list[PlannedRun]:
    chosen = protocol(protocol_name)
    return plan(select(selectors, chosen, None, None), chosen, limit, Store())
