"""Against the published design as it comes: mmsegmentation's wheel, NCHW, eager, float32; all else equal.

`python tests/benchmarks/published.py [T S B] [--threads N] [--repeat N]` in .venv-oracle (`make bench` does it). Each
of the two works in a process of its own, as its worker sets it up; they take turns; the medians of ratios count.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from mmcv_ops import stand_in  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from segnext.config import SIZES, Data, Model, Run, Train  # noqa: E402
from segnext.data.transforms import test_image as picture_of  # noqa: E402
from segnext.measure import machine  # noqa: E402
from segnext.model import SegNeXt  # noqa: E402
from segnext.released_weights import load_released  # noqa: E402
from segnext.testing.evaluate import predictions  # noqa: E402
from segnext.training.segmentation import Segmentation  # noqa: E402

GOALS = {"train": (1.6, 1.6), "single": (2.5, 2.0), "multi": (3.0, 2.2)}  # of T; of S and B
ADE20K = Data("ade20k", 150, (2048, 512), (512, 512))


def published_encoder(size: str) -> nn.Module:
    """The wheel's MSCAN. Raises `ImportError` where the wheel is not installed."""
    sys.modules["mmcv.ops"] = stand_in()
    from mmseg.models.backbones.mscan import MSCAN

    own = SIZES[size]
    encoder: nn.Module = MSCAN(
        embed_dims=list(own.channels),
        depths=list(own.depths),
        mlp_ratios=list(own.expansion_ratios),
        drop_path_rate=own.drop_path,
        norm_cfg={"type": "BN"},
    )
    return encoder


class Published(nn.Module):
    """The wheel's network: `(B, 3, H, W) -> (B, classes, H/8, W/8)`."""

    def __init__(self, size: str, classes: int = 150) -> None:
        super().__init__()
        sys.modules["mmcv.ops"] = stand_in()  # before anything of mmseg
        from mmseg.models.decode_heads.ham_head import LightHamHead

        own = SIZES[size]
        self.backbone = published_encoder(size)
        self.decode_head = LightHamHead(
            in_channels=list(own.channels[1:]),
            in_index=[1, 2, 3],
            channels=own.decoder_channels,
            ham_channels=own.decoder_channels,
            ham_kwargs={"MD_R": own.nmf_rank},
            num_classes=classes,
            dropout_ratio=0.1,
            norm_cfg={"type": "GN", "num_groups": 32},
            align_corners=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decode_head(self.backbone(x))


class One:
    """A split of one image."""

    classes = tuple(map(str, range(150)))
    labelled = True

    def __init__(self, height: int, width: int) -> None:
        self.image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.image, np.zeros(self.image.shape[:2], np.uint8)


def resized(scores: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)


def pictures(source: One, multi_scale: bool) -> list[Tensor]:
    """What the released test pipeline makes of an image: `(1, 3, h, w)` for every pass, each ratio also flipped."""
    passes = [(r, f) for r in ADE20K.test_scales for f in (False, True)] if multi_scale else [(1.0, False)]
    return [picture_of(source.image, ADE20K, ratio, flip) for ratio, flip in passes]


@torch.inference_mode()
def published_test(network: nn.Module, source: One, multi_scale: bool, ready: list[Tensor] | None = None) -> Tensor:
    """mmsegmentation's whole inference, `aug_test` with `multi_scale`; on the pictures that are `ready`, if any are."""
    network.eval()
    device = next(network.parameters()).device
    total: Tensor | None = None
    passes = pictures(source, multi_scale) if ready is None else ready
    for number, x in enumerate(passes):
        x = x.to(device)
        scores = resized(resized(network(x), x.shape[2:]), source.image.shape[:2]).softmax(dim=1)
        scores = scores.flip(3) if number % 2 else scores
        total = scores if total is None else total + scores
    assert total is not None
    return (total / len(passes)).argmax(dim=1).cpu()


def our_test(network: nn.Module, source: One, multi_scale: bool, batch: int = 1) -> Tensor:
    """The last image's prediction, all of the source being tested."""
    device = next(network.parameters()).device
    *_, (_, found, _) = predictions(network, source, ADE20K, multi_scale=multi_scale, batch=batch, device=device)
    return found


def published_step(network: nn.Module) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(network.train().parameters(), lr=6e-5, weight_decay=0.01)
    x, labels = torch.randn(4, 3, 128, 128), torch.randint(150, (4, 128, 128))

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(resized(network(x), labels.shape[1:]), labels, ignore_index=255).backward()
        optimiser.step()

    return step


def our_step(network: nn.Module, size: str) -> Callable[[], None]:
    task = Segmentation(Run("paper", 1, Model(size), ADE20K, Train(160_000), 0), One(8, 8))
    optimiser = torch.optim.AdamW(task.groups(network.train()), fused=True)
    x, labels = torch.randn(4, 3, 128, 128), torch.randint(150, (4, 128, 128), dtype=torch.uint8)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        task.loss(network, x.contiguous(memory_format=torch.channels_last), labels).backward()
        optimiser.step()

    return step


WHAT = ("train", "single", "multi")


class Side:
    """One of the two, in a process of its own that answers how many seconds something took."""

    def __init__(self, which: str, size: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        context.Process(target=_answer, args=(which, size, threads, other), daemon=True).start()

    def leave(self) -> None:
        """End the process."""
        self._pipe.send("leave")

    def ask(self, what: str) -> float:
        """Seconds of `what`; for "memory" the bytes that a training step adds to the process at its peak."""
        self._pipe.send(what)
        found: float = self._pipe.recv()
        return found


def _answer(which: str, size: str, threads: int, pipe: Connection) -> None:
    warnings.simplefilter("ignore")  # the wheel's own
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network: nn.Module = Published(size)
    square, wide, test = One(512, 512), One(512, 683), published_test
    if which == "ours":
        machine.keep_freed()
        ours, test = SegNeXt(Model(size), 150), our_test
        load_released(ours, network.state_dict())  # both have the same weights
        network = ours
    step = published_step(network) if which == "published" else our_step(network, size)
    work: dict[str, Callable[[], object]] = {
        "train": step,
        "single": partial(test, network, square, False),
        "multi": partial(test, network, wide, True),
    }
    while (what := pipe.recv()) != "leave":
        if what == "memory":
            step()
            machine.forget_peak()
            before = machine.resident() or (0, 0)
            step()
            after = machine.resident() or (0, 0)
            pipe.send(after[1] - before[0])
            continue
        started = time.perf_counter()
        work[what]()
        pipe.send(time.perf_counter() - started)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("sizes", nargs="*", default=["T", "S", "B"])
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--repeat", type=int, default=5)
    options = parse.parse_args()
    try:
        Published("T")
    except ImportError as error:
        print(f"skipped: {error}; it runs in .venv-oracle (make oracle sets it up)")
        return
    rows: list[list[Any]] = []
    for size in options.sizes:
        theirs, ours = (Side(which, size, options.threads) for which in ("published", "ours"))
        peaks = [side.ask("memory") for side in (theirs, ours)]
        rows.append([size, "memory", *peaks, peaks[1] / peaks[0], "", "", 0.8])
        print(
            f"{size} memory  published {peaks[0] / 1e6:.0f} MB   ours {peaks[1] / 1e6:.0f} MB   ratio {rows[-1][4]:.2f}"
        )
        for what in WHAT:
            repeat = max(3, options.repeat // 2) if what == "multi" else options.repeat
            turns = [[side.ask(what) for side in (theirs, ours)] for _ in range(repeat + 1)][1:]  # the first warms up
            medians = [statistics.median(found) for found in zip(*turns, strict=True)]
            ratios = sorted(a / b for a, b in turns)
            ratio, goal = statistics.median(ratios), GOALS[what][min("TSB".index(size), 1)]
            rows.append([size, what, *medians, ratio, ratios[0], ratios[-1], goal])
            print(
                f"{size} {what:7} published {medians[0]:7.3f} s   ours {medians[1]:7.3f} s   ratio {ratio:.2f} "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f}; goal {goal})",
                flush=True,
            )
        for side in (theirs, ours):
            side.leave()
    columns = ["size", "what", "published", "ours", "ratio", "least", "most", "goal"]
    write("published", options.threads, columns, rows)


def write(name: str, threads: int, columns: list[str], rows: list[list[Any]]) -> None:
    """Keep what was measured, with the machine and the versions in the file's name."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    machine = platform.processor() or platform.machine()
    path = folder / f"{name}-{machine}-{threads}-threads-torch-{torch.__version__.split('+')[0]}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    print(f"wrote {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
