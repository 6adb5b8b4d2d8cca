"""Where a record comes from: code, versions, machine. No path and no host is named: records are committed."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from studies.store import REPOSITORY

PACKAGES = ("torch", "torchvision", "fvcore", "numpy", "pillow")


@cache
def code_fingerprint() -> str:
    """Digest of what `segnext` does: its sources without comments, docstrings and layout.

    Without the generators either: a run's `Data.generator` says which version of them made its images.
    """
    digest = hashlib.sha256()
    for path in sorted((REPOSITORY / "segnext").rglob("*.py")):
        if path.name == "diagnostic.py":
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    node.body = node.body[1:] or [ast.Pass()]
        digest.update(path.relative_to(REPOSITORY).as_posix().encode())
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:12]


def provenance() -> dict[str, Any]:
    """Commit, versions and processor of this process."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "segnext", "studies")),
        "code": code_fingerprint(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processor": _processor(),
    }


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
