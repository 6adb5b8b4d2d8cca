"""Every file of the report but the pages of runs, put together in memory: either all can be written, or none is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reports.blocks.csv import to_csv
from reports.blocks.figure import MANIFEST, Drawing, being_drawn, keep, manifest
from reports.blocks.points import Curves
from reports.blocks.table import Table
from reports.sections import (
    claims,
    curves,
    discrepancies,
    every_run,
    figure1,
    frames,
    ham,
    landing,
    main_table,
    misprints,
    others,
    overview,
    photographs,
    pictures,
    predictions,
    recipes,
    reproducibility,
    scaling,
    shortcuts,
    tables,
)
from reports.sections.parts import Report, StudyPart, Summary, VariantPart
from reports.write import formats, page, run_pages
from reports.write.latex import latex
from studies import shortcuts as probed
from studies.declare.study import Study
from studies.declare.subtasks import Subtask
from studies.facts import foretold
from studies.facts.gather import Evidence, common, gather
from studies.plan.programme import Line, first_lines
from studies.records.parallel import beside
from studies.records.schema import ShortcutRecord
from studies.records.store import Store
from studies.records.typed import Damaged


def read(chosen: Sequence[Study], store: Store, out: Path | None = None, *, logs: bool = False) -> Report:
    """The report on these studies; `ValueError`: a damaged record.

    The recipes, appendix Table 1, are always among it. With `logs` pending rows say which runs are running or queued.
    What was read of curves is remembered in `out`.
    """
    shared, probes, read_curves = common(store), probed.records(store), Curves(store, out)
    parts = [_study_part(gather(study, store, logs, shared), store, read_curves, probes) for study in chosen]
    read_curves.keep()
    probes = probes if any(shown.predicted for part in parts for shown in part.variants) else []
    everything = [part.evidence for part in parts]
    summary = Summary(
        overview.overview_table(parts),
        claims.summary_table(everything),
        misprints.table(everything),
        discrepancies.discrepancies_table(everything),
        figure1.figure1(everything),
        shortcuts.shortcuts_table(probes),
        every_run.every_run_table(everything),
    )
    shown = [(v.variant, v.predicted[0]) for part in parts for v in part.variants if v.predicted]
    told = [predictions.matrix(shown), summary.shortcuts] if shown else []
    seen = photographs.photographs(chosen, store)
    return Report(parts, summary, told, seen, recipes.tables(), others.tables(), probes, shared.lost)


def pages(report: Report, store: Store, out: Path, markdown: Path, formats: Sequence[str]) -> dict[str, str | bytes]:
    """Every file of the report by name, as it will lie in `out`, but for those of the summary and the pages of runs.

    The summary lies in `markdown`. Writes nothing. A figure that lies in `out` in these `formats` is not drawn again
    while its data and its file are as they were. Raises `ValueError` if a curve is damaged.
    """
    parts, summary = report.parts, report.summary
    files: dict[str, str | bytes] = {}
    keep(report.drawings, out, formats)
    with (
        beside(lambda: _counted(report, store), worth=bool(parts)) as count,
        being_drawn(report.drawings, formats) as wait,
    ):
        for part in parts:
            files.update(_study_files(part))
        files.update(_prediction_files(report.predictions))
        for table in (summary.claims, summary.wrong, summary.discrepancies) if parts else ():
            files.update(_table_files(table))
        files.update(_recipe_files(report.recipes))
        answers, plan, damage = count()
        store.damage = list({str(found): found for found in (*store.damage, *damage)}.values())
        files.update(_answer_files(answers))
        wait()
    for figure in report.drawings:
        files.update(figure.files(formats))
    files.update(page.pages(report, answers, plan, _way(out, markdown), formats))
    files[f"{others.SLUG}.csv"] = to_csv(others.values())
    files[MANIFEST] = manifest(report.drawings, formats)
    files.update({name: page.text(name) for name in ("page.css", "page.js")})
    return files


def _counted(report: Report, store: Store) -> tuple[Sequence[Table], Sequence[Line], Sequence[Damaged]]:
    """What the page on reproducibility counts of every record, what to run next, and what is damaged."""
    parts, everything = report.parts, [part.evidence for part in report.parts]
    records = {record.id: record for evidence in everything for record in evidence.records(store)}
    found = landing.landing(parts).headline if parts else ()
    answers = reproducibility.tables(everything, [records[key] for key in sorted(records)], report.lost, found)
    plan = first_lines([evidence.study for evidence in everything], store)
    return answers, plan, store.damage


def write_run_pages(report: Report, store: Store, out: Path, *, logs: bool = False) -> list[Path]:
    """Write the page of every record behind the report, those alone that something changed, as they are made."""
    everything = [part.evidence for part in report.parts]
    results = _way(out / run_pages.FOLDER, store.folder)
    return run_pages.write(everything, report.probes, store, out, page.template("run.html.j2"), results, logs)


def _way(start: Path, end: Path) -> str:
    """From one folder to another, as a link."""
    return Path(os.path.relpath(end, start.resolve())).as_posix()


def _study_part(evidence: Evidence, store: Store, read_curves: Curves, probes: Sequence[ShortcutRecord]) -> StudyPart:
    variants = []
    predicted = _predicted(evidence, store, read_curves, probes)
    for variant in evidence.variants:
        # A run that several tables share would else be drawn in each of them, alone.
        drawings: list[Drawing | None] = []
        if variant.telling:
            drawings = [curves.strip(variant), curves.losses(variant, read_curves), curves.classes(variant, store)]
        accuracy = tables.accuracy_table(variant)
        if isinstance(variant.panel, Subtask) and variant.panel.classes == 2:  # its own tables say more than mean IoU
            drawings, accuracy = drawings[1:2], dataclasses.replace(accuracy, lines=())
        if isinstance(variant.panel, Subtask) and variant.panel.purpose != "idea":  # each run's page has its loss
            drawings = []
        looked_at = pictures.pictures(variant, store) if variant.telling else []
        variants.append(
            VariantPart(
                variant,
                accuracy,
                ham.ham_table(variant),
                claims.claims_table(evidence, variant),
                (*(drawing for drawing in drawings if drawing), *pictures.drawings(variant, looked_at)),
                pictures.share_table(variant, looked_at),
                *predicted.get(variant.slug, ((), None)),
            )
        )
    costs = tuple(tables.cost_table(evidence, panel) for panel in evidence.study.panels)
    bars = (figure1.cost_bars(evidence, panel) for panel in evidence.study.panels)
    return StudyPart(
        evidence,
        main_table.main_tables(evidence),
        main_table.all_missing(evidence),
        claims.of_study(evidence),
        costs,
        tuple(drawing for drawing in bars if drawing),
        claims.claims_table(evidence, None),
        scaling.scaling(evidence),
        frames.frame_table(evidence),
        tuple(variants),
    )


def _predicted(
    evidence: Evidence, store: Store, read_curves: Curves, probes: Sequence[ShortcutRecord]
) -> dict[str, tuple[tuple[Table, ...], Drawing | None]]:
    """By variant: predictions about a sub-task of the generated data with their outcomes, and accuracy by distance."""
    shown = [
        (variant, variant.panel, foretold.by_row(variant, store))
        for variant in evidence.variants
        if isinstance(variant.panel, Subtask)
    ]
    judged, found = foretold.judged(shown), dict[str, tuple[tuple[Table, ...], Drawing | None]]()
    rates = dict(predictions.rates_tables(evidence.study, shown))
    for variant, panel, own in shown:
        tables_ = (
            predictions.prediction_table(variant, panel, own, judged[variant.slug], probes),
            predictions.learning_table(variant, panel, own, read_curves),
            *([rates[variant.slug]] if variant.slug in rates else []),
        )
        found[variant.slug] = tables_, predictions.distance_figure(variant, panel, own)
    return found


def _prediction_files(told: Sequence[Table]) -> Mapping[str, str]:
    """Every prediction about the generated data with its outcome, of all studies, and the shortcut probes."""
    if not told:
        return {}
    return {
        "predictions.tex": latex("predictions.tex", [table for table in told if table.lines]),
        **{f"{table.slug}.csv": formats.values_csv(table) for table in told},
    }


def _study_files(part: StudyPart) -> Mapping[str, str | bytes]:
    study = part.evidence.study
    accuracies = [(shown.variant, shown.accuracy) for shown in part.variants]
    claims_of = [(None, part.cost_claims), *((shown.variant, shown.claims) for shown in part.variants)]
    files: dict[str, str | bytes] = {
        f"{study.slug}.tex": latex(f"{study.slug}.tex", part.tables),
        f"{study.slug}.csv": formats.wide_csv(part.evidence, part.costs, accuracies),
        f"{study.slug}-claims.csv": formats.claims_csv(part.evidence, claims_of),
    }
    if spreads := [(shown.variant, shown.ham) for shown in part.variants if shown.ham.lines]:
        files[f"{study.slug}-ham.csv"] = formats.ham_csv(spreads)
    for table in (table for shown in part.variants for table in shown.predicted):
        files[f"{table.slug}.csv"] = formats.values_csv(table)
    for table in [table for table, _ in part.scaling] + ([part.frames] if part.frames.lines else []):
        files[f"{table.slug}.csv"] = formats.values_csv(table)
    return files


def _recipe_files(details: Sequence[Table]) -> Mapping[str, str]:
    return {
        f"{recipes.SLUG}.tex": latex(f"{recipes.SLUG}.tex", details),
        f"{recipes.SLUG}.csv": formats.values_csv(details[0]),
        "recipes.csv": to_csv(recipes.values()),
    }


def _answer_files(answers: Sequence[Table]) -> Mapping[str, str]:
    shown = {table.slug: table for table in answers}
    return {
        f"{reproducibility.SLUG}.md": formats.markdown(reproducibility.TITLE, answers),
        **{
            f"{slug}.csv": formats.values_csv(shown[slug])
            for slug in (f"{reproducibility.SLUG}-choices", f"{reproducibility.SLUG}-compute")
        },
    }


def _table_files(table: Table) -> Mapping[str, str]:
    return {
        f"{table.slug}.tex": latex(f"{table.slug}.tex", [table] if table.lines else []),
        f"{table.slug}.csv": formats.values_csv(table),
    }
