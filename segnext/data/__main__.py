"""`python -m segnext.data show | check | convert | probe DATASET`: look at a dataset, validate it, prepare labels."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from PIL import Image

from segnext.data import DataNotFoundError, open_dataset
from segnext.data.contents import keep_contents
from segnext.data.datasets import DATASETS, IMAGENET, dataset_name, display_colours
from segnext.data.processes import available_processes
from segnext.data.source import IGNORE
from segnext.data.tools.check import Report, check, imagenet
from segnext.data.tools.convert import CONVERTED, convert, planned
from segnext.data.tools.show import sheet
from segnext.door import Column, Parser, command, folder_of, say, show_table, typed_path
from segnext.files import write_atomically
from segnext.text import printable

FINE, PROBLEMS, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130

_SHOWN = 5  # problems of a kind that are listed without --all

# Lowest and highest value of each numeric option: a sheet of 40 x 40 pictures takes 4 GB.
_BOUNDS = {"columns": (1, 40), "rows": (1, 40), "magnify": (1, 64), "images": (10, 20_000), "processes": (1, 1024)}


@command("python -m segnext.data")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    options.data_root = options.data_root or folder_of("SEGNEXT_DATA")
    again = "; the same command continues" if options.verb == "convert" else ""
    try:
        if not options.dataset.startswith("diagnostic/"):
            options.dataset = dataset_name(options.dataset)
        for name, (least, most) in _BOUNDS.items():
            if (value := getattr(options, name, least)) not in range(least, most + 1):
                raise ValueError(f"--{name}: {value} is not between {least} and {most}")
        return {"show": _show, "check": _check, "convert": _convert, "probe": _probe}[options.verb](options)
    except KeyboardInterrupt:
        say(f"interrupted{again or '; nothing was written'}", error=True)
        return INTERRUPTED
    except BrokenProcessPool:
        say(f"error: a process was killed, for want of memory perhaps; try fewer --processes{again}", error=True)
        return PROBLEMS
    except BrokenPipeError:  # the reader, say `| head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PROBLEMS if again else FINE
    except (OSError, MemoryError) as error:
        say(f"error: {_said(error)}{again}", error=True)
        return PROBLEMS
    except ValueError as error:
        say(f"error: {_said(error)}", error=True)
        return NOT_FOUND if isinstance(error, DataNotFoundError) else USAGE


def _said(error: BaseException) -> str:
    """The error's message, or its type if it has none, with control characters in file names escaped."""
    return printable(str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__), 2000)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m segnext.data", description="Look at a dataset, validate it, or prepare its labels.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="write a picture of a split: every image above its label")
    show.add_argument("--split", default="train")
    show.add_argument("--out", type=typed_path, default=Path("sheet.png"), metavar="FILE")
    show.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    show.add_argument("--columns", type=int, default=6)
    show.add_argument("--rows", type=int, default=3)
    show.add_argument("--magnify", type=int, default=1, help="screen pixels for each pixel")
    count = verbs.add_parser(
        "check",
        help="count and validate the files of a dataset",
        description="Counts and reads every file, and keeps a digest of a split's bytes, for records, in "
        ".segnext-contents/ beside the data or else in ~/.cache/segnext. Exit status: 0 fine (there may be remarks), 1 "
        "problems, 2 usage, 3 not found.",
    )
    count.add_argument("--split", action="append", default=[], help="only this split; may be repeated")
    count.add_argument("--names-only", action="store_true", help="count and pair files without reading them")
    count.add_argument("--all", action="store_true", help="list every problem, not the first of each kind")
    prepare = verbs.add_parser(
        "convert",
        help="make the labels that training reads from a dataset's originals",
        description="Makes the files that are missing, and touches no other. Exit status: 0 all are there, 1 some "
        "could not be made (the others were), 2 usage, 3 originals not found, 130 interrupted (the same command "
        "continues).",
    )
    prepare.add_argument(
        "--source",
        type=typed_path,
        metavar="PATH",
        help="the originals, if they are not below the data root: SBD's folder (voc2012), trainval_merged.json or the "
        "folder of .mat files (pascal_context), the folder with train/ and val/ (isaid)",
    )
    prepare.add_argument("--dry-run", action="store_true", help="say what would be written; write nothing")
    shortcuts = verbs.add_parser(
        "probe",
        help="test whether patches of a generated dataset reveal a class that is decided beyond them",
        description="Percent of pixels that a linear classifier of k x k patches gets right, by their distance to the "
        "deciding cue. Beyond a patch's reach it should be at chance; otherwise the data reveal their labels.",
    )
    shortcuts.add_argument("--images", type=int, default=400, metavar="N", help="fitted and tested on (default: 400)")
    for verb in (count, prepare):
        usable = available_processes()
        verb.add_argument("--processes", type=int, default=usable, metavar="N", help="default: the usable cores")
    named = {show: [*DATASETS, "diagnostic/<task>"], count: [*DATASETS, IMAGENET], prepare: [*CONVERTED]}
    named[shortcuts] = ["diagnostic/<task>"]
    for verb, names in named.items():
        verb.add_argument("dataset", help=", ".join(names))
        verb.add_argument(
            "--data-root", type=typed_path, metavar="DIR", help="the dataset's folder, or one that holds it"
        )
    return parser


def _show(options: argparse.Namespace) -> int:
    kind = Image.registered_extensions().get(options.out.suffix.lower())
    if kind not in ("PNG", "JPEG", "WEBP", "PDF"):
        raise ValueError(f"--out: {options.out} is not named like a picture; use .png, .jpg, .webp or .pdf")
    if options.out.exists() and not options.overwrite:
        raise ValueError(f"--out: {options.out} is there already; name another file, or add --overwrite")
    source = open_dataset(options.dataset, options.split, options.data_root)
    page = sheet(source, options.columns, options.rows, options.magnify, display_colours(options.dataset))
    buffer = io.BytesIO()
    page.save(buffer, kind)
    write_atomically(options.out, buffer.getbuffer())
    title = f"{options.out}: {options.dataset} {options.split}"
    say(f"{title}, {len(source)} images, fingerprint {source.fingerprint()}")
    return FINE


def _probe(options: argparse.Namespace) -> int:
    from segnext.data.tools.probe import SIDES, distances, probe

    if not options.dataset.startswith("diagnostic/"):
        raise ValueError(f"{options.dataset}: only generated datasets, diagnostic/<task>, know what decides a class")
    source = open_dataset(options.dataset, "train")
    say(f"{options.dataset}: percent that k x k patches get right; chance is {100 / len(source.classes):.0f}")
    rows = []
    task = options.dataset.removeprefix("diagnostic/")
    for side in SIDES:
        cells = (probe(task, side, at, options.images) for at in distances(side))
        rows.append([str(side), *("-" if cell is None else f"{cell:.1f}" for cell in cells)])
    show_table([Column(title, right=True) for title in ("k", "cue within the patch", "cue beyond it")], rows)
    return FINE


def _check(options: argparse.Namespace) -> int:
    if options.dataset != IMAGENET and options.dataset not in DATASETS:
        raise ValueError(f"{options.dataset} is generated: there are no files to check")
    dataset = imagenet() if options.dataset == IMAGENET else DATASETS[options.dataset]
    reports, absent = check(
        dataset, options.data_root, options.split, processes=options.processes, names_only=options.names_only
    )
    if not reports:
        say(f"error: {next(iter(absent.values()))}", error=True)
        return NOT_FOUND
    say(f"{dataset.name} in {reports[0].folder}\n")
    _print_counts(reports)
    if not options.names_only:
        _print_classes(dataset.classes, reports)
        _keep_contents(dataset.name, reports)
    problems = sum(_print_found(report, report.findings.problems, "", options.all) for report in reports)
    remarks = sum(_print_found(report, report.findings.remarks, "remark: ", options.all) for report in reports)
    needed = [split for split in absent if split in options.split or _is_labelled(dataset.name, split)]
    for split, why in absent.items():
        server = "" if split in needed else " (only its test server needs it)"
        say(f"\n{split} is not there{server}: {printable(why, 2000)}")
    problems += len(needed)
    say(f"\n{problems or 'no'} problems" + (f", {remarks} remarks" if remarks else ""))
    return PROBLEMS if problems else FINE


def _convert(options: argparse.Namespace) -> int:
    plan = planned(options.dataset, options.data_root, options.source)
    return PROBLEMS if convert(plan, options.processes, options.dry_run) else FINE


def _is_labelled(name: str, split: str) -> bool:
    layouts = DATASETS[name].splits[split].layouts if name in DATASETS else ()
    return name == IMAGENET or not layouts or any(layout.labels for layout in layouts)


def _print_counts(reports: list[Report]) -> None:
    rows = []
    for report in reports:
        expected = report.declared.frames or "-"
        labels = report.labels if report.labelled else "-"
        paper = f" (the paper says {report.declared.paper})" if report.declared.paper else ""
        fingerprint = report.fingerprint or "none: it cannot be opened as it is"
        rows.append([report.split, str(report.images), str(labels), str(expected), f"{fingerprint}{paper}"])
    numbers = (Column(heading, right=True) for heading in ("images", "labels", "expected"))
    show_table((Column("split"), *numbers, Column("fingerprint", folds=True)), rows)


def _print_classes(classes: tuple[str, ...], reports: list[Report]) -> None:
    """Print a line per class: its percentage of the pixels that are not ignored, and their number."""
    shown = [report for report in reports if report.findings.pixels.any()]
    if not shown:
        return
    rows = []
    for label, name in [*enumerate(classes), (IGNORE, "ignored, % of all")]:
        rows.append([str(label), name])
        for report in shown:
            pixels = report.findings.pixels
            of = pixels.sum() if label == IGNORE else pixels[:IGNORE].sum()
            rows[-1] += [f"{100 * pixels[label] / max(of, 1):.4f}", str(pixels[label])]
    titles = (title for report in shown for title in (f"{report.split}, %", f"{report.split}, pixels"))
    columns = (
        Column("label", right=True),
        Column("class", folds=True),
        *(Column(title, right=True) for title in titles),
    )
    say("")
    show_table(columns, rows, "pixels of each class, % of those not ignored")


def _keep_contents(dataset: str, reports: list[Report]) -> None:
    """Keep the content fingerprint of each split that was read completely, and print where it is kept."""
    for report in reports:
        digests = report.findings.digests
        if not report.files or any(f"{folder}/{path}" not in digests for folder, path in report.files):
            continue
        contents, place = keep_contents(report.folder, dataset, report.split, report.files, digests)
        kept = f"kept in {printable(place)}" if place else "kept nowhere: neither the data nor the cache can be written"
        print(f"\ncontents of {report.split}, every byte: {contents}, {kept}")


def _print_found(report: Report, found: dict[str, list[str]], title: str, every: bool) -> int:
    """Print the problems or remarks found in a split, and return their number."""
    for kind, messages in found.items():
        shown = messages if every else messages[:_SHOWN]
        say(f"\n{report.split}: {title}{len(messages)} {kind}")
        say("\n".join(f"  {printable(message, 2000)}" for message in shown))
        if len(shown) < len(messages):
            say(f"  and {len(messages) - len(shown)} more (--all lists them)")
    return sum(map(len, found.values()))


if __name__ == "__main__":
    sys.exit(main())
