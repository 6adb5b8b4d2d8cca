"""The reproducibility page: the ML reproducibility checklist (Pineau et al., 2.0), answered from the records."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from reports.blocks.table import METRICS, Cell, Column, Line, Source, Table
from reports.sections.provenance import duration, provenance_table
from segnext.config import ClassificationData, ClassificationTrain, Data, Execution, Model, Size, Train
from segnext.config.choices import IN_CODE
from segnext.config.fields import SOURCES, Choice, choices_of, told
from studies.declare.appendix_table1 import CHOICES, FIELDS, FIXED
from studies.declare.study import Row
from studies.facts.gather import Evidence, marks
from studies.judge import verdicts
from studies.records.attempts import LostAttempt
from studies.records.causes import CAUSES
from studies.records.schema import Record, RunRecord, ScoredRecord

TITLE = "Reproducibility"
SLUG = "reproducibility"
CHECKLIST = "the ML reproducibility checklist, version 2.0"

Items = Sequence[tuple[str, str | Cell]]


def tables(
    everything: Sequence[Evidence], records: Sequence[Record], lost: Sequence[LostAttempt], found: Sequence[str] = ()
) -> list[Table]:
    """A page in short, the checklist's five parts in its order, and after each what it needs more room for.

    `found`: the results in sentences.
    """
    runs = [record for record in records if isinstance(record, RunRecord)]
    return [
        in_short(everything, runs, found),
        _part(1, "Models and algorithms", _models(everything)),
        choices_table(),
        _part(
            2, "Theoretical claims", [("Statements, assumptions, proofs", "The paper makes none; O(n) is measured.")]
        ),
        _part(3, "Datasets", _datasets(records)),
        data_table(records),
        _part(4, "Code", _code(records)),
        _part(5, "Experimental results", _results(everything, runs)),
        compute_table(runs, lost),
        provenance_table(records),
    ]


def in_short(everything: Sequence[Evidence], runs: Sequence[RunRecord], found: Sequence[str]) -> Table:
    """What a reproducibility track asks for first: scope, methodology, results, what was easy, what was not."""
    claims = sum(len(evidence.study.claims) for evidence in everything)
    trained = Counter(run.config.protocol for run in runs)
    items = (
        (
            "Scope of reproducibility",
            f"{claims} claims of the paper about differences between rows of {len(everything)} tables and texts, and "
            "every printed parameter and FLOP count.",
        ),
        (
            "Methodology",
            "Network, trainer and evaluation are written anew in PyTorch, from the paper where it speaks and from the "
            "released code where it is silent, and held to the released code's outputs and training steps. "
            + (
                f"{len(runs)} runs are recorded: {', '.join(f'{count} {name}' for name, count in trained.items())}."
                if runs
                else "No run is recorded yet."
            ),
        ),
        ("Results", " ".join(found) or "Nothing is measured yet."),
        (
            "What was easy",
            "The four networks: the released configurations give their printed parameters, and but for L on "
            "Cityscapes their printed FLOPs, by the tool that the authors used.",
        ),
        (
            "What was difficult",
            "What is neither printed nor released: the ablations' heads and configurations, ImageNet training, Pascal "
            "VOC, Pascal Context and iSAID. Rank and steps of Ham, warm-up, weight decay, drop path and the decoder's "
            "learning rate stand in the code alone.",
        ),
        (
            "What stood in the way",
            "Compute: every printed accuracy starts from an ImageNet training. Test servers hold the labels of Pascal "
            "VOC and of Table 11. Ham draws its bases at random, also in a test.",
        ),
    )
    lines = tuple(Line(str(place), (Cell(asked), Cell(told))) for place, (asked, told) in enumerate(items, start=1))
    columns = (Column("Asked", align="text"), Column("Answer", align="text"))
    return Table(f"{SLUG}-short", "In short", (), columns, lines)


def _part(number: int, title: str, items: Items) -> Table:
    lines = tuple(
        Line(f"{number}-{place}", (Cell(asked), told if isinstance(told, Cell) else Cell(told)))
        for place, (asked, told) in enumerate(items, start=1)
    )
    columns = (Column("The checklist asks for", align="text"), Column("Answer", align="text"))
    return Table(f"{SLUG}-{number}", f"{number}. {title}", (), columns, lines)


def _models(everything: Sequence[Evidence]) -> Items:
    rows = [row for evidence in everything for row in evidence.study.rows if row.model is not None]
    models = {repr(row.model) for row in rows if isinstance(row, Row)}
    costs = sum(len(evidence.expenses) for evidence in everything)
    index = "#"
    return [
        (
            "A clear description of the mathematical setting, algorithm and model",
            f"{len(models)} models are declared as values of segnext.config.Model; the equation, figure or file that "
            "each part comes from is named where it is written. What the paper leaves open follows below.",
        ),
        ("An explanation of any assumptions", "Every choice that is not the paper's is marked: the next table."),
        (
            "An analysis of the complexity (time, space) of any algorithm",
            Cell(
                f"Parameters and FLOPs of {costs} rows are measured; cost, latency and memory against pixels: Table 1",
                sources=(Source("Table 1", f"{index}table1"),) if _has(everything, "table1") else (),
            ),
        ),
    ]


def _has(everything: Sequence[Evidence], slug: str) -> bool:
    return any(evidence.study.slug == slug for evidence in everything)


def choices_table() -> Table:
    """Every choice with its source: of the recipes, of the models, and of what the code does."""
    lines = list(_choices())
    counts = Counter(line.cells[3].values["origin"] for line in lines)
    caption = (
        "“Paper:” as printed. “Official code:” as the authors released it, where the paper is silent or differs; "
        "“VAN:” as the code that they pretrained with. “Ours:” a choice of this project.",
        f"{', '.join(f'{count} {word}' for word, count in sorted(counts.items()))}.",
    )
    columns = (
        Column("Where", align="text"),
        Column("What", align="text"),
        Column("Source", align="text"),
        Column("Origin", align="left"),
    )
    return Table(f"{SLUG}-choices", "Choices, and where each comes from", caption, columns, tuple(lines))


def _choices() -> Iterator[Line]:
    for kind in (Data, Train, ClassificationData, ClassificationTrain, Size, Model, Execution):
        for name, choices in choices_of(kind).items():
            yield _choice(kind.__name__, FIELDS.get(f"{kind.__name__}.{name}", name), choices, key=name)
    for fixed in FIXED:
        yield _choice("every recipe", f"{fixed.words}: {fixed.value}", fixed.choices)
    for name, choices in CHOICES.items():
        yield _choice(f"recipe {name}", "what differs from the others", choices)
    for name, choices in IN_CODE.items():
        module, _, what = name.partition(":")
        yield _choice(module, what, choices)


def _choice(where: str, what: str, choices: Sequence[Choice], key: str = "") -> Line:
    """A line; of several origins it shows the one that is farthest from the paper."""
    origin = max((choice.source for choice in choices), key=SOURCES.index)
    source = told(choices)
    values = {"where": where, "what": what, "source": source, "origin": origin}
    key = re.sub(r"[^a-z0-9]+", "-", f"{where} {key or what}".lower()).strip("-")
    return Line(key, (Cell(where, values), Cell(what), Cell(source), Cell(origin, {"origin": origin})))


def _datasets(records: Sequence[Record]) -> Items:
    used = sorted({record.config.data.dataset for record in records if isinstance(record, ScoredRecord)})
    generated = [name for name in used if name.startswith("diagnostic/")]
    real = [name for name in used if name not in generated]
    return [
        ("The relevant statistics, such as number of examples", "The next table, counted by the runs that read them."),
        (
            "The details of train, validation and test splits",
            "By record in the next table; by recipe in appendix Table 1.",
        ),
        (
            "An explanation of any data that were excluded, and all pre-processing",
            "None was excluded. Label maps and crops: python -m segnext.data check; augmentation: appendix Table 1.",
        ),
        (
            "A link to a downloadable version of the dataset",
            f"Real: {', '.join(real) or 'none used yet'}; README.md names where each is had.",
        ),
        (
            "For new data, a complete description of the collection process",
            f"Generated by segnext.data.generated, version in each record: {', '.join(generated) or 'none used yet'}.",
        ),
    ]


def data_table(records: Iterable[Record]) -> Table:
    """Every split that was read: images, fingerprint, and how many records read it."""
    found: Counter[tuple[str, str, str, str, str]] = Counter()
    for record in records:
        for read in record.splits_read() if isinstance(record, ScoredRecord) else ():
            if read.fingerprint:
                images = "–" if read.images is None else str(read.images)
                found[read.dataset, read.split, images, read.fingerprint, read.contents or "–"] += 1
    columns = (
        Column("Dataset", align="text"),
        Column("Split", align="left"),
        Column("Images"),
        Column("Fingerprint", align="left"),
        Column("Contents", align="left"),
        Column("Records"),
    )
    lines = tuple(
        Line(f"{place}", tuple(Cell(word) for word in (*key, str(count))))
        for place, (key, count) in enumerate(sorted(found.items()), start=1)
    )
    caption = (
        "A fingerprint is a digest of the names of a split's files and of their sizes in bytes (ImageNet-1K: the size "
        "of one image of each class), of generated images that of the generator's version and of the first image's "
        "pixels. The same data give the same everywhere; other bytes of the same size are not noticed.",
        "Contents is the digest of every byte, where python -m segnext.data check had computed it before the run.",
    )
    return Table(f"{SLUG}-data", "Data that were read", caption, columns, lines)


def _code(records: Sequence[Record]) -> Items:
    commands = Counter(record.provenance.command for record in records)
    commits = {record.provenance.commit for record in records} - {None}
    changed = sum(record.provenance.dirty for record in records)
    stale = sum("stale code" in marks(record) for record in records)
    shown = "; ".join(command for command, _ in sorted(commands.items()) if command)
    return [
        ("A specification of dependencies", "requirements.lock, with hashes; environment.yml, pyproject.toml."),
        ("Training code", "segnext/training/train.py, started by python -m studies.run STUDY."),
        ("Evaluation code", "segnext/testing/evaluate.py, part of every run; again with --only evaluate."),
        ("(Pre-)trained models", "The weights of every run are named by SHA-256 in its record; they stay under runs/."),
        (
            "A README with the table of results and the precise command to reproduce them",
            f"README.md. The records were made by: {shown or 'nothing yet'}.",
        ),
        (
            "The code that made the numbers (not asked for)",
            f"{len(commits)} commits; {changed} of {len(records)} records with uncommitted changes, which they hold; "
            f"{stale} by other code than today's, marked stale.",
        ),
    ]


def _results(everything: Sequence[Evidence], runs: Sequence[RunRecord]) -> Items:
    seeds: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        seeds[run.config.protocol].add(run.config.seed)
    repeated = sum(len(variant.retested) for evidence in everything for variant in evidence.variants)
    told = "; ".join(f"{name}: {', '.join(map(str, sorted(found)))}" for name, found in sorted(seeds.items()))
    metrics = ", ".join(METRICS.values())
    return [
        (
            "The range of hyper-parameters considered, the method to select them, and all of them",
            "Those of the paper under protocol paper, none searched; every value of every recipe: appendix Table 1. "
            "Rates chosen for generated data are panels of their own, on images that are there for it.",
        ),
        (
            "The exact number of training and evaluation runs",
            f"{len(runs)} finished runs, each with its test; {repeated} of them tested again. "
            f"Seeds: {told or 'none yet'}.",
        ),
        ("A clear definition of the measures", f"{metrics}: results/README.md, segnext/testing/metrics.py."),
        (
            "A description of results with central tendency and variation",
            f"Mean over training seeds with the 95 % t-interval from {verdicts.MINIMUM_SEEDS} seeds on (not a standard "
            "deviation or error); differences by Welch, claims corrected by Holm. Ham's bases: seed 0 of "
            "the evaluation.",
        ),
        ("The average run time for each result", "The next table: by protocol and kind of model."),
        ("A description of the computing infrastructure", "The last table."),
    ]


def compute_table(runs: Sequence[RunRecord], lost: Sequence[LostAttempt]) -> Table:
    """What training took by protocol and model, lost attempts included, and what led to no record."""
    groups: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for run in runs:
        groups[run.config.protocol, run.config.trained_as, run.provenance.precision].append(run)
    lines = [
        _compute_line(
            protocol,
            model,
            computed,
            len(found),
            sum(run.provenance.attempts for run in found),
            [run.training.seconds for run in found if run.training.seconds is not None],
            sum(run.process_seconds for run in found),
            sum(run.provenance.gpu_seconds for run in found),
        )
        for (protocol, model, computed), found in sorted(groups.items())
    ]
    if lost:
        processes, gpus = sum(a.seconds * a.processes for a in lost), sum(a.seconds * a.gpus for a in lost)
        causes = Counter(CAUSES[a.cause].words if a.cause in CAUSES else a.cause for a in lost)
        told = ", ".join(f"{count} {word}" for word, count in sorted(causes.items()))
        lines.append(_compute_line("without a record", told, "", 0, len(lost), [], processes, gpus))
    columns = (
        Column("Protocol", align="text"),
        Column("Model", align="text"),
        Column("Precision", align="left"),
        Column("Runs"),
        Column("Attempts"),
        Column("Training, mean"),
        Column("Processes, total"),
        Column("GPUs, total"),
    )
    caption = (
        "Totals are of all attempts of the finished runs, lost ones included (of older records: of training alone).",
        "Without a record: the attempts of every run that has not finished, from results/attempts.csv.",
    )
    return Table(f"{SLUG}-compute", "Compute", caption, columns, tuple(lines))


def _compute_line(
    protocol: str,
    model: str,
    computed: str,
    runs: int,
    attempts: int,
    seconds: Sequence[float],
    processes: float,
    gpus: float,
) -> Line:
    cells = (
        Cell(protocol, {"protocol": protocol, "model": model, "runs": runs, "attempts": attempts}),
        Cell(model),
        Cell(computed or "–", {"precision": computed or None}),
        Cell(str(runs)),
        Cell(str(attempts)),
        Cell(duration(statistics.fmean(seconds)) if seconds else "–"),
        Cell(duration(processes), {"process_seconds": processes}),
        Cell(duration(gpus) if gpus else "–", {"gpu_seconds": gpus}),
    )
    return Line(re.sub(r"[^a-z0-9]+", "-", f"{protocol} {model} {computed}".lower()).strip("-"), cells)
