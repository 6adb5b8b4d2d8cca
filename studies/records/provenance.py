"""The provenance of a record: code, versions, machine. It names no path and no host, because records are committed."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from segnext.config import Platform
from segnext.files import write_atomically
from segnext.measure import machine
from studies.records.schema import Record
from studies.records.snapshot import code_version
from studies.records.store import REPOSITORY
from studies.records.typed import Damaged, read, to_json

PACKAGES = ("torch", "torchvision", "fvcore", "numpy", "pillow", "opencv-python-headless")


MEASURED_BY = {
    "cost": ("segnext.measure.cost",),
    "speed": ("segnext.measure.speed",),
    "run": ("segnext.training.train", "segnext.testing.evaluate", "segnext.testing.by_distance", "segnext.data"),
    "evaluation": ("segnext.testing.evaluate", "segnext.released_weights", "segnext.data"),
    "shortcut": ("segnext.data.tools.probe",),
}
"""The modules that compute the numbers of each kind of record."""

RECORDED_OTHERWISE = ("segnext.config", "segnext.data.generated")
"""Prefixes of modules that a record's own configuration covers: `Data.generator`, for example, is the version of the
generators."""


SAME_TO_ROUNDING = {
    "cost": {
        "585650c2f539": "convolutions and norms are classes of their own: tests/segnext/test_cost.py",
        "4160148955c7": "processes learn their ranks in another way: tests/segnext/test_distributed.py",
        "4fa18260aace": "modules moved into rooms, with the same code: tests/segnext/test_released_values.py",
        "58455cc69662": "one NMF update, kernels in modules of their own, the same bits: test_numerics.py",
        "57a476cd8509": "the line above as Python 3.12 spells it: fingerprints are alike in every Python now",
        "7202babf8e92": "depth-wise weight gradients on a CPU, in another order: tests/segnext/test_fast.py",
    },
    "speed": {
        "cf1808dfbb28": "segnext.machine has a function that measurements of speed do not call",
        "f92aa5081bc2": "processes learn their ranks in another way: tests/segnext/test_distributed.py",
        "a357b03d678d": "modules moved into rooms, with the same code: tests/segnext/test_released_values.py",
        "707983acbe01": "one NMF update, kernels in modules of their own, the same bits: test_numerics.py",
        "afd2d9164bb0": "the line above as Python 3.12 spells it: fingerprints are alike in every Python now",
        "9dc050f4cf31": "depth-wise weight gradients on a CPU, in another order: tests/segnext/test_fast.py",
    },
    "shortcut": {
        "690790f84f00": "how lists, folders and images are read: tests/segnext/data/test_data_listing.py",
        "7c66c666a9ae": "modules moved into rooms, with the same code: tests/segnext/test_released_values.py",
        "e410630471e4": "fingerprints are alike in every Python now: tests/studies/test_store.py",
    },
    "run": {
        "952e52478d30": "torchvision is imported where it is needed",
        "48202db98bb8": "sub-tasks of the generated data were added",
        "43ed2090ce2f": "norms folded for tests, upsampling and loss in blocks of rows: tests/segnext/test_fast.py",
        "a8bf3070327a": "OpenCV itself resizes and distorts, before it was equal to one level: test_data_transforms.py",
        "77660e2ea111": "what a GPU needs; the same bits on a CPU, self-attention to rounding: test_train.py",
        "d7b0523375e4": "states know their data, loaders ignore signals, lists have one reader: test_damage.py",
        "c72ed5fa5ccd": "modules moved into rooms, with the same code: tests/segnext/test_released_values.py",
        "55850c334cbc": "duplicates removed, the training loop in parts, the same bits: tests/segnext/test_train.py",
        "1d146c018550": "the line above as Python 3.12 spells it: fingerprints are alike in every Python now",
        "0d7f5297a6fa": "weights files say whose they are, mmengine's can be read: tests/segnext/test_predict.py",
        "abe2262d5ac1": "depth-wise weight gradients on a CPU, in another order: tests/segnext/test_fast.py",
    },
    "evaluation": {
        "da6e48cfb5bc": "norms folded, upsampling in blocks of rows: tests/segnext/test_fast.py",
        "37ecb195ce8a": "images loaded ahead, counted on the device: tests/segnext/test_evaluate.py",
        "da0d4ba4482f": "OpenCV itself resizes, before it was equal to one grey level: test_data_transforms.py",
        "dd1eed4f8b3c": "weights files are looked through, lists have one reader: tests/segnext/test_checkpoints.py",
        "253a63cf3004": "modules moved into rooms, with the same code: tests/segnext/test_released_values.py",
        "e81156e289ef": "duplicates removed (NMF, label lists, keywords), the same bits: test_evaluate.py",
        "0d7c7f32c126": "the line above as Python 3.12 spells it: fingerprints are alike in every Python now",
        "cd1e18fcf293": "weights files say whose they are, mmengine's can be read: tests/segnext/test_predict.py",
        "394c832936ec": "depth-wise weight gradients on a CPU, in another order: tests/segnext/test_fast.py",
    },
}
"""Earlier fingerprints by kind of record, each with the change after it, which tests show to be equal to rounding."""


def made_by_todays_code(record: Record) -> bool:
    """Whether today's code gives the record's numbers, at least to rounding."""
    return todays(record.kind, record.provenance.code)


def todays(kind: str, code: str | None) -> bool:
    """The same of the fingerprint in a record of this kind; what a test server said is of no code."""
    return kind not in MEASURED_BY or code == code_fingerprint(kind) or code in SAME_TO_ROUNDING.get(kind, {})


@cache
def code_fingerprint(kind: str) -> str:
    """Digest of the code behind a kind of record, without comments, docstrings and layout.

    It covers the modules that made it and everything in segnext that they import, at the top or within a function.
    """
    return _fingerprints()[kind]


@cache
def _fingerprints() -> dict[str, str]:
    """By kind. Half a second of work, so it is kept beside the compiled code, by a digest of all sources of segnext."""
    sources = sorted((REPOSITORY / "segnext").rglob("*.py"))
    contents = hashlib.sha256(Path(__file__).read_bytes())
    for path in sources:
        contents.update(f"{path.relative_to(REPOSITORY)} {path.stat().st_size}\n".encode() + path.read_bytes())
    kept = Path(__file__).parent / "__pycache__" / f"fingerprints-{contents.hexdigest()[:32]}.json"
    with suppress(Damaged):
        known = read(kept, dict[str, str], "delete it")
        if known is not None and known.keys() == MEASURED_BY.keys():
            return known
    found = {kind: _fingerprint(kind) for kind in MEASURED_BY}
    with suppress(OSError):  # somebody else's installation
        write_atomically(kept, to_json(found), durable=False)
    return found


def _fingerprint(kind: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(_behind(MEASURED_BY[kind])):
        digest.update(name.encode())
        digest.update(_bare(name).encode())
    return digest.hexdigest()[:12]


@cache
def _bare(name: str) -> str:
    """The code of a module without comments, docstrings and layout; the same text under every version of Python."""
    tree = _parsed(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return _words(tree)


def _words(node: object) -> str:
    """A syntax tree as text, without what differs between versions of Python.

    These are empty fields (`type_params`), and empty text in an f-string.
    """
    if isinstance(node, ast.JoinedStr):
        node.values = [value for value in node.values if not (isinstance(value, ast.Constant) and value.value == "")]
    if isinstance(node, ast.AST):
        filled = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        inside = ",".join(f"{name}={_words(value)}" for name, value in filled if name not in ("ctx", "kind"))
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return "[" + ",".join(map(_words, node)) + "]"
    return repr(node)


def _behind(names: Iterable[str]) -> set[str]:
    """The names of these modules of segnext and of all that they import."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name.startswith(RECORDED_OTHERWISE) or _file(name) is None:
            continue
        found.add(name)
        waiting += _imports(name)
    return found


@cache
def _imports(name: str) -> list[str]:
    """The names of everything that a module imports, at the top or within a function."""
    found: list[str] = []
    for node in ast.walk(_parsed(name)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _parsed(name: str) -> ast.Module:
    path = _file(name)
    assert path is not None, name
    return ast.parse(path.read_bytes())


def _file(name: str) -> Path | None:
    """The source file of a module of segnext; None for any other module."""
    base = REPOSITORY.joinpath(*name.split("."))
    files = (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file())
    return next(files, None) if name.split(".")[0] == "segnext" else None


def provenance(kind: str) -> dict[str, Any]:
    """Commit, versions and processor of this process, for a record of the given kind."""
    version = code_version()
    return {
        "commit": version["commit"],
        "dirty": bool(version["diff"]),
        **({"diff": version["diff"]} if version["diff"] else {}),
        "code": code_fingerprint(kind),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processor": _processor(),
        "driver": _driver(),
    }


def platform_of(device: str, threads: int, precision: str = "float32") -> Platform:
    """This machine as the platform of speeds; imports torch for a GPU. Raises `ValueError` if it has no such device."""
    version = importlib.metadata.version("torch")
    kind = device.split(":")[0]
    name, size = _processor(), machine.installed()
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError(f"--device {device}: torch {version} finds no GPU here that it can use")
        properties = torch.cuda.get_device_properties(device)
        name, size = properties.name, properties.total_memory
    return Platform(name, round(size / 2**30), version, kind, threads, precision)


def _driver() -> str | None:
    """The version of the NVIDIA driver; None if there is none."""
    told = Path("/proc/driver/nvidia/version")
    found = re.search(r"Kernel Module\D*([\d.]+)", told.read_text()) if told.exists() else None
    return found[1] if found else None


def _processor() -> str:
    """The processor's name with its widest instruction set, because torch's rounding depends on that."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    widest = next((shown for flag, shown in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    return f"{name} ({widest})" if widest else name
