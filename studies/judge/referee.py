"""What a referee would ask about published numbers: findings, computed from the lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from studies.declare.published import Published
from studies.declare.study import Panel, Study
from studies.judge import others
from studies.tables import study


@dataclass(frozen=True)
class Figure:
    """A number of others, the number that it is compared with (printed or theirs), and its lines."""

    what: str
    value: float
    against: float
    lines: tuple[Published, ...]
    digits: int = 2

    @property
    def difference(self) -> float:
        """Their value − the one that it is compared with."""
        return self.value - self.against


@dataclass(frozen=True)
class Finding:
    """One finding: a sentence and the figures behind it; `against` names the numbers that they are compared with."""

    slug: str
    title: str
    says: str
    against: str
    figures: tuple[Figure, ...]


def findings(lines: Sequence[Published]) -> list[Finding]:
    """All findings that the lines support, in the order of the paper's tables."""
    made: tuple[Callable[[Sequence[Published]], Finding | None], ...] = (
        _margins,
        _own_code,
        _seeds_of_l,
        _mask2former,
        _paddle,
        _speed,
        _table8,
        _isaid,
    )
    return [finding for make in made if (finding := make(lines))]


def _margins(lines: Sequence[Published]) -> Finding | None:
    """The differences between SegNeXt and SegFormer on ADE20K, both trained and tested by mmsegmentation."""
    table9, figures = study("table9"), []
    for claim in table9.claims:
        if claim.metric == "miou_ss" and claim.worse.startswith("segformer") and claim.dataset == "ade20k":
            for found in others.claim(lines, table9, claim).differences:
                assert claim.printed is not None
                labels = f"{found.better.model} − {found.worse.model}"
                figures.append(Figure(labels, found.value, claim.printed, (found.better, found.worse)))
    if not figures:
        return None
    known = others.UNCERTAIN
    noise = sum(abs(figure.value) <= known for figure in figures)
    return Finding(
        "margins",
        "The margin over SegFormer on ADE20K",
        f"One project trained both and tested them alike: {_list(figures, signed=True)}, printed "
        f"{', '.join(f'{figure.against:+.1f}' for figure in figures)}. Two single runs differ by {known:.1f} anyway: "
        f"{noise} of {len(figures)} margins are no larger than that.",
        "printed margin",
        tuple(figures),
    )


def _own_code(lines: Sequence[Published]) -> Finding | None:
    """The authors' code, trained by others."""
    ran = [
        line
        for line in lines
        if line.source == "mmsegmentation" and line.framework == "the authors' code" and line.study == "table9"
    ]
    figures = _against_print(ran)
    if not figures:
        return None
    return Finding(
        "own-code",
        "The authors' own code, run by others",
        f"On one GPU, with BN for SyncBN, it came out {_range([-figure.difference for figure in figures])} lower than "
        "printed. The report was seen in an excerpt and counts towards no level.",
        "printed",
        figures,
    )


def _seeds_of_l(lines: Sequence[Published]) -> Finding | None:
    """The range over seeds that mmsegmentation states for SegNeXt-L."""
    ends = {line.statistic: line for line in lines if (line.source, line.row) == ("mmsegmentation", "l")}
    low, high = ends.get("lowest"), ends.get("highest")
    if low is None or high is None:
        return None
    figures = _against_print([low, high])
    peer = next((found.worse for found in _found(lines, "t9-L-b3-ade20k")), None)
    margins = f" Over {peer.model} ({peer.value:.2f}) that is {low.value - peer.value:+.2f} to " if peer else ""
    margins += f"{high.value - peer.value:+.2f}." if peer else ""
    return Finding(
        "seeds-of-l",
        "SegNeXt-L over seeds",
        f"{low.value:.1f} to {high.value:.1f} on ADE20K over trainings that differ in the seed alone; how many is not "
        f"stated.{margins}",
        "printed",
        figures,
    )


def _mask2former(lines: Sequence[Published]) -> Finding | None:
    ours = _cell(lines, "table9", "mask2former-swin-t", "ade20k", "miou_ss")
    figures = _against_print(ours)
    if not figures:
        return None
    return Finding(
        "mask2former",
        "Mask2Former with Swin-T",
        f"Trained again it reaches {_list(figures)} for the {figures[0].against:.1f} that Table 9 quotes: what "
        "SegNeXt-L gains on it shrinks by as much.",
        "quoted",
        figures,
    )


def _paddle(lines: Sequence[Published]) -> Finding | None:
    ran = [
        line
        for row in ("t", "s", "b", "l")
        for line in _cell(lines, "table9", row, "cityscapes", "miou_ss")
        if line.source == "PaddleSeg"
    ]
    figures = _against_print(ran)
    if not figures:
        return None
    return Finding(
        "paddleseg",
        "Cityscapes with another Ham",
        f"PaddleSeg gives every size a Ham of 256 channels and rank 16 and still reaches {_list(figures)}: "
        f"{_range([figure.difference for figure in figures], signed=True)} from the printed values.",
        "printed",
        figures,
    )


def _speed(lines: Sequence[Published]) -> Finding | None:
    """SegNeXt's latency divided by that of the SegFormer that the paper compares it with, and the ratio of FLOPs."""
    table9, device = study("table9"), "Jetson AGX Orin, batch 1"
    timed = {
        (line.dataset, line.row): line
        for line in lines
        if (line.source, line.metric, line.differs) == ("EfficientViT", "latency_ms", device)
    }
    figures = []
    for panel in table9.panels:
        for ours, peer in (("s", "segformer-b1"), ("b", "segformer-b2"), ("l", "segformer-b3")):
            pair = timed.get((panel.dataset, ours)), timed.get((panel.dataset, peer))
            flops = [_prints(table9, panel, row, "gflops") for row in (ours, peer)]
            if pair[0] and pair[1] and flops[0] and flops[1]:
                what = f"{pair[0].model} / {pair[1].model} at {pair[0].split}"
                figures.append(Figure(what, pair[0].value / pair[1].value, flops[0] / flops[1], (pair[0], pair[1])))
    small = [figure for figure in figures if figure.what.endswith("512x512")]
    if not small:
        return None
    large = [figure for figure in figures if figure not in small]
    return Finding(
        "speed",
        "FLOPs that do not become speed",
        f"At 512×512 SegNeXt takes {_list(small)} times as long as the SegFormer beside it, with "
        f"{', '.join(f'{figure.against:.2f}' for figure in small)} of its FLOPs; at 1024×2048 {_list(large)} times.",
        "ratio of printed FLOPs",
        tuple(figures),
    )


def _table8(lines: Sequence[Published]) -> Finding | None:
    table8 = study("table8")
    rows = [line for line in lines if (line.study, line.source) == ("table8", "Enjoy-Hamburger") and line.row]
    figures = _against_print(rows)
    same = [figure for figure in figures if abs(figure.difference) < 0.05 + 1e-9]
    if not figures:
        return None
    return Finding(
        "table8",
        "Rows of Table 8 and another repository",
        f"{len(same)} of {len(figures)} printed numbers of {table8.number}'s rows without MSCA equal, once rounded, "
        "those of Enjoy-Hamburger's public table: a VAN encoder with a light Ham, trained by another recipe. Read so, "
        "the rows are no ablation of MSCA alone.",
        "printed",
        figures,
    )


def _isaid(lines: Sequence[Published]) -> Finding | None:
    ran = [line for row in ("pspnet", "hrnet") for line in _cell(lines, "table4", row, "isaid", "miou_ss")]
    figures = _against_print(ran)
    if not figures:
        return None
    return Finding(
        "isaid",
        "The peers of Table 4",
        f"Trained again, PSPNet and HRNet reach {_list(figures)} on iSAID, "
        f"{_range([figure.difference for figure in figures])} above what the table quotes.",
        "quoted",
        figures,
    )


def _cell(lines: Iterable[Published], slug: str, row: str, dataset: str, metric: str) -> list[Published]:
    """The lines that count for a cell, one per set of weights."""
    table = study(slug)
    found = next(declared for declared in table.rows if declared.slug == row)
    return list(others.level(lines, table, found, table.panel(dataset), metric).counted)


def _against_print(lines: Sequence[Published]) -> tuple[Figure, ...]:
    found, models = [], Counter((line.model, line.metric, line.source) for line in lines)
    for line in lines:
        table = study(line.study)
        printed = _prints(table, table.panel(line.dataset), line.row, line.metric)
        if printed is not None:
            what = line.model if line.metric.startswith("miou") else f"{line.model}, {line.metric}"
            several = models[line.model, line.metric, line.source] > 1 and line.weighs
            what += f", {line.date}" if several else "" if line.weighs else f", {line.statistic}"
            found.append(Figure(what, line.value, printed, (line,)))
    return tuple(found)


def _prints(table: Study, panel: Panel, row: str, metric: str) -> float | None:
    return next(declared for declared in table.rows if declared.slug == row).prints(panel, metric)


def _found(lines: Sequence[Published], slug: str) -> tuple[others.Difference, ...]:
    table = study("table9")
    return others.claim(lines, table, next(claim for claim in table.claims if claim.slug == slug)).differences


def _list(figures: Sequence[Figure], signed: bool = False) -> str:
    return ", ".join(f"{figure.value:+.2f}" if signed else f"{figure.value:.2f}" for figure in figures)


def _range(values: Sequence[float], signed: bool = False) -> str:
    low, high = min(values), max(values)
    return f"{low:+.1f} to {high:+.1f}" if signed else f"{low:.1f} to {high:.1f}"
