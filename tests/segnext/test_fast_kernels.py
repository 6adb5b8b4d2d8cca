"""The kernels for CUDA where there is no CUDA: right under Triton's interpreter, and compiled for an H100."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from conftest import REPOSITORY

triton = pytest.importorskip("triton", reason="Triton is not installed: the kernels for CUDA cannot be tested")

from segnext.fast import cross_entropy, depthwise, depthwise_kernels, group_norm, pointwise, residual  # noqa: E402

HALF = ("bf16", "fp16")
SPECIALISED = {"C", "sB", "sA", "sX", "branch", "xbranch", "gbranch"}  # multiples of 16, which the kernels may know


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.long(first=True)
def test_the_kernels_give_what_pytorch_gives_under_the_interpreter():
    """Triton decides between compiler and interpreter when it is imported: a process of its own."""
    out = run("-m", "pytest", "-q", "-x", "tests/interpreted_kernels.py", TRITON_INTERPRET="1")
    assert " passed" in out
    assert "skipped" not in out


def test_segnext_plain_switches_the_kernels_off():
    program = "from segnext.fast import choice; print(choice.FAST)"
    assert run("-c", program, SEGNEXT_PLAIN="1").split() == ["False"]
    assert run("-c", program, SEGNEXT_PLAIN="").split() == ["True"]


def test_a_cpu_never_imports_triton():
    program = """
import sys, torch
from segnext.msca import MSCA
MSCA(4, (7,), True, True)(torch.randn(1, 4, 5, 5))
print("triton" in sys.modules)
"""
    assert run("-c", program).split() == ["False"]


def compiled(
    kernel: Any, pointers: dict[str, str], floats: tuple[str, ...], constants: dict[str, Any], warps: int
) -> Any:
    """The kernel as ptxas makes it for an H100; the interpreter accepts what the compiler does not."""
    from triton.backends.compiler import GPUTarget

    types = {name: "*" + pointers[name] for name in pointers} | dict.fromkeys(floats, "fp32")
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = {name for name in kernel.arg_names if name in pointers or name in SPECIALISED}
    # What a kernel is told not to look at must not be needed either.
    aligned -= {parameter.name for parameter in kernel.params if parameter.do_not_specialize}
    hints = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(kernel.arg_names) if name in aligned}
    source = triton.compiler.ASTSource(kernel, signature, constexprs=constants, attrs=hints)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@pytest.mark.parametrize("dtype", ["fp32", *HALF])
@pytest.mark.parametrize(
    ("kx", "ks", "dilation"), [(3, (3,), 1), (5, (5,), 1), (1, (7, 11, 21), 1), (7, (7,), 3)], ids=str
)
def test_the_convolutions_compile_for_an_h100_and_load_16_bytes_at_once(
    dtype: str, kx: int, ks: tuple[int, ...], dilation: int
):
    k0, k1, k2 = [*ks, 0, 0][:3]
    shape = {"KX": kx, "DIL": dilation, "K0": k0, "K1": k1, "K2": k2, "R": depthwise.R, "TC": 64}
    warps, tx = depthwise._shape(128, 64, 8 if dtype in HALF else 4)
    tile = shape | {"TX": tx, "FLIP": False, "BIAS": True}
    pointers = {"x": dtype, "taps": "fp32", "bias": "fp32", "out": dtype}
    made = [compiled(depthwise_kernels.spread, pointers, (), tile, warps)]
    if kx == 1:
        plus = {"PLUS": True, "FLIP": True, "BIAS": False}
        made.append(compiled(depthwise_kernels.gather, {**pointers, "plus": dtype}, (), tile | plus, warps))
    for kernel in made:
        loads = re.findall(r"ld\.global\.[\w:.]+", kernel.asm["ptx"])
        assert loads
        assert all(".v4." in load for load in loads)
        assert not re.findall(r"st\.global\.(?!v4)", kernel.asm["ptx"])
        assert "convert_layout" not in kernel.asm["ttgir"]  # which goes by way of shared memory
    warps, tx = depthwise._shape(128, 64, 4)
    columns = kx if kx * k0 <= depthwise.TAPS else 1
    compiled(
        depthwise_kernels.weight_sums,
        {"x": dtype, "g": dtype, "partial": "fp32"},
        (),
        shape | {"TX": tx, "JG": columns},
        warps,
    )


@pytest.mark.parametrize("dtype", ["fp32", *HALF])
@pytest.mark.parametrize("padded", [2, 32, 256])
def test_the_loss_compiles_for_an_h100(dtype: str, padded: int):
    tile = {"P": cross_entropy._pixels(padded), "CP": padded}
    pointers = {"scores": dtype, "labels": "u8", "losses": "fp32", "corners": "fp32"}
    made = compiled(cross_entropy._cells, pointers, ("down", "across"), tile, 1)
    assert "atom" not in made.asm["ptx"]
    pointers = {"corners": "fp32", "gradient": "fp32", "out": dtype}
    compiled(cross_entropy._nodes, pointers, (), {"N": max(1, 1024 // padded), "CP": padded}, 4)


@pytest.mark.parametrize("dtype", ["fp32", *HALF])
@pytest.mark.parametrize("keep", [False, True], ids=["all", "some"])
def test_the_residual_compiles_for_an_h100_and_loads_16_bytes_at_once(dtype: str, keep: bool):
    tr, tc = residual._rows(4096, 64)
    tile = {"KEEP": keep, "TR": tr, "TC": tc}
    pointers = {"x": "fp32", "y": dtype, "scale": "fp32", "keep": "fp32", "out": "fp32"}
    made = [compiled(residual._forward, pointers, (), tile, 4)]
    pointers = {"g": "fp32", "y": dtype, "scale": "fp32", "keep": "fp32", "out": dtype, "partial": "fp32"}
    made.append(compiled(residual._gradients, pointers, (), tile, 4))
    for kernel in made:
        assert "ld.global.v4" in kernel.asm["ptx"]
        assert "st.global.v4" in kernel.asm["ptx"]
        assert "atom" not in kernel.asm["ptx"]


@pytest.mark.parametrize("dtype", ["fp32", *HALF])
@pytest.mark.parametrize("channels", [32, 256])
def test_column_sums_compile_for_an_h100_and_load_16_bytes_at_once(dtype: str, channels: int):
    tr, tc = pointwise._tiles(4096, channels, 2 if dtype in HALF else 4)
    made = compiled(pointwise._sums, {"x": dtype, "partial": "fp32"}, (), {"TR": tr, "TC": tc}, 4)
    assert "ld.global.v4" in made.asm["ptx"]
    assert "atom" not in made.asm["ptx"]


@pytest.mark.parametrize("dtype", ["fp32", *HALF])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_the_group_norm_compiles_for_an_h100_and_loads_16_bytes_at_once(dtype: str, backward: bool):
    tr, tc = residual._rows(4096, 256)
    tile = {"TR": tr, "TC": tc}
    pointers = {"g": "fp32", "x": dtype, "shift": "fp32", "partial": "fp32"}
    made = [compiled(group_norm._sums, pointers, (), tile | {"SQUARE": not backward}, 4)]
    pointers = {"g": "fp32", "x": dtype, "factors": "fp32", "out": dtype if backward else "fp32"}
    made.append(compiled(group_norm._affine, pointers, (), tile | {"PLUS": backward}, 4))
    for kernel in made:
        assert "ld.global.v4" in kernel.asm["ptx"]
        assert "atom" not in kernel.asm["ptx"]
