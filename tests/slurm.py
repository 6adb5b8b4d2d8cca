"""The one-machine SLURM of slurm/dev-cluster, as tests use it: started, driven, broken on purpose, and taken down."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "slurm" / "dev-cluster"
NO_SLURM = 77
PATIENCE = 1200.0  # seconds: a test that waits fails on what it sees, not on a slow machine
Process = subprocess.Popen[str]
RELEASE = os.environ.get("DEV_CLUSTER_RELEASE", "")  # of Debian, whose SLURM this is; empty: the machine's own

if RELEASE:  # as a shell that evals `dev-cluster env`: every command of every test is that release's
    os.environ["PATH"] = subprocess.check_output(
        ["bash", "-c", 'eval "$("$0" env)"; printf %s "$PATH"', str(SCRIPT)], text=True
    )


class NoSlurm(Exception):
    """SLURM cannot be had on this machine."""


@dataclass
class Cluster:
    """One cluster; its settings are the DEV_CLUSTER_* of the script: `nodes=1, extra="MaxArraySize=11"`."""

    folder: Path
    settings: dict[str, str]
    keeper: subprocess.Popen[str]

    @classmethod
    def up(cls, folder: Path | None = None, port: int | None = None, **settings: object) -> Cluster:
        """Starts one. Without a folder it gets one in /tmp, gone with `down`: a socket's path has 107 bytes at most."""
        own = folder is None
        folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")) if folder is None else folder
        values = {"dir": folder, "port": free_ports() if port is None else port, **settings}
        variables = {f"DEV_CLUSTER_{name.upper()}": str(value) for name, value in values.items()}
        # The cluster lives as long as this pipe is open, so a killed test process leaves no daemons.
        then = '[ "$2" = 0 ] || rm -rf "$1"; exit $code'
        keeper = subprocess.Popen(
            ["bash", "-c", f'read -r; "$0" down; code=$?; {then}', str(SCRIPT), str(folder), str(int(own))],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        cluster = cls(folder, variables, keeper)
        try:
            cluster._script("up")
        except BaseException:
            cluster.down()
            raise
        return cluster

    def down(self) -> None:
        """Ends every process of the cluster; a second time it does nothing."""
        if self.keeper.stdin and not self.keeper.stdin.closed:
            _, errors = self.keeper.communicate()
            assert self.keeper.returncode == 0, errors

    @property
    def environment(self) -> dict[str, str]:
        """What a process that is to use the cluster needs beside os.environ."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *words: object) -> str:
        """What one of SLURM's commands prints: `call("squeue", "--noheader")`."""
        return _run([str(word) for word in words], self.environment)

    def sbatch(self, script: str, *options: object) -> str:
        """Submits a bash script's lines; the job's id."""
        return self.call("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}").strip()

    def queue(self) -> dict[str, str]:
        """The state of every job that has not ended, by id; array elements as `17_3`, each with a line of its own."""
        lines = self.call("squeue", "--array", "--noheader", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def accounted(self, job: str) -> str:
        """The state that sacct tells of a job, or nothing."""
        return self.call("sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={job}").strip()

    def drained(self) -> None:
        """Waits until the queue is empty."""
        wait_until(lambda: not self.queue(), self.queue)

    def node(self, name: str) -> str:
        """A node's state, e.g. `idle`, `mixed`, `down*`."""
        return self.call("sinfo", "--noheader", "--partition=debug", f"--nodes={name}", "--format=%T").strip()

    def kill_slurmd(self, name: str) -> None:
        self._script("kill-slurmd", name)

    def kill_node(self, name: str) -> None:
        self._script("kill-node", name)

    def start_node(self, name: str) -> None:
        self._script("start-node", name)

    def stop_controller(self) -> None:
        self._script("stop-controller")

    def start_controller(self) -> None:
        self._script("start-controller")

    def stop_accounting(self) -> None:
        self._script("stop-accounting")

    def freeze_accounting(self) -> None:
        self._script("freeze-accounting")

    def start_accounting(self) -> None:
        self._script("start-accounting")

    def _script(self, *words: str) -> str:
        return _run([str(SCRIPT), *words], self.settings)


@dataclass
class People:
    """Unix users of the group `lab`, whom only dev-cluster knows, and a folder that everybody can reach.

    A cluster that is started with `**with_users(...)` has them, too. Raises `NoSlurm` where they cannot be had.
    """

    folder: Path
    settings: dict[str, str]

    @classmethod
    def of(cls, *names: str) -> People:
        """Users of these names, without a cluster."""
        folder = Path(tempfile.mkdtemp(prefix="people-", dir="/tmp"))
        folder.chmod(0o755)
        people = cls(folder, {f"DEV_CLUSTER_{name.upper()}": value for name, value in with_users(*names).items()})
        people.settings["DEV_CLUSTER_DIR"] = str(folder)
        try:
            _run([str(SCRIPT), "as", names[0], "true"], people.settings)
        except BaseException:
            shutil.rmtree(folder)
            raise
        return people

    def starts(self, name: str, *words: object, umask: str = "022", **environment: object) -> Process:
        """A command of this user, under way."""
        return subprocess.Popen(
            [str(SCRIPT), "as", name, "sh", "-c", f'umask {umask}; exec "$@"', "-", *map(str, words)],
            env={**os.environ, **self.settings, **{key: str(value) for key, value in environment.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def does(self, name: str, *words: object, umask: str = "022", codes: tuple[int, ...] = (), **more: object) -> str:
        """A command of this user, done; what it printed. `codes`: what its exit code may be; empty: whatever it is."""
        process = self.starts(name, *words, umask=umask, **more)
        told, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode in (codes or (process.returncode,)), told
        return told


def with_users(*names: str) -> dict[str, str]:
    """The settings of a cluster with users of its own, who can reach this Python and this repository."""
    needed = {os.path.realpath(folder) for folder in (sys.base_prefix, sys.prefix, SCRIPT.parent.parent)}
    return {"users": " ".join(names), "show": " ".join(sorted(needed))}


def _run(words: list[str], variables: dict[str, str]) -> str:
    done = subprocess.run(words, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    if done.returncode == NO_SLURM and words[0] == str(SCRIPT):
        raise NoSlurm(done.stderr.splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


def wait_until(true: Callable[[], object], seen: Callable[[], object] = lambda: "") -> None:
    """Asks again and again; when patience ends, the error says what was seen last."""
    last = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > last:
            raise TimeoutError(f"not so after {PATIENCE:g} s: {seen()}")
        time.sleep(0.2)


def free_ports() -> int:
    """The first of twenty free ports, below those the kernel gives away."""
    while True:
        port = random.SystemRandom().randrange(12000, 32000, 20)
        try:
            for each in (port, port + 1, *range(port + 11, port + 20)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port
