"""The page of a run: what it was, what came out, and where it came from."""

import gzip
import json
import os

import pytest
from records import add_curve, add_run, fabricate
from reporting import Page, render

from reports import build
from reports.write import run_pages
from segnext.config import canonical
from studies.declare.protocols import PROTOCOLS
from studies.records.parallel import spread
from studies.records.store import Store
from studies.records.typed import to_json
from studies.records.workspace import Workspace
from studies.tables.table7 import STUDY


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    return fabricate(tmp_path / "results", seeds=1, curves=True)


def test_every_number_leads_to_a_page_that_leads_to_the_record(store, tmp_path):
    files = render(tmp_path / "out", "table7")
    identifier = next(key for key in store.records if "-" not in key)
    text = files[f"runs/{identifier}.html"].decode()
    page = Page(text)
    record = next(link for link in page.links if link.endswith(".json"))
    assert json.loads((tmp_path / "out" / "runs" / record).read_text())["id"] == identifier
    curve = next(link for link in page.links if link.endswith(".csv"))
    assert (tmp_path / "out" / "runs" / curve).exists()
    for shown in ("quick", "Example CPU &lt;2 GHz&gt;", "0123456789abcdef", "road", "50.00", "f00d", "polyline"):
        assert shown in text
    assert '<td class="right">–</td>' in text  # a class that is nowhere in the split
    back = [link.removeprefix("../").split("#") for link in page.links if "#" in link]
    assert back
    for name, place in back:
        assert place in Page(files[name].decode()).ids


def test_a_page_is_made_again_exactly_when_something_changed(store, tmp_path, monkeypatch):
    out, (first, second, *_) = tmp_path / "out", [key for key in store.records if "-" not in key]
    made: list[str] = []
    page = run_pages._page
    monkeypatch.setattr(run_pages, "_page", lambda shown, *rest: made.append(shown.record["id"]) or page(shown, *rest))

    def remade() -> set[str]:
        made.clear()
        render(out, "table7")
        return set(made)

    assert remade() > {first, second}
    before = {path: path.read_bytes() for path in out.rglob("[!.]*.*")}
    assert remade() == set()
    (out / "runs" / f"{first}.html").write_text("tampered with")
    assert remade() == {first}
    (store.folder / "curves" / f"{first}.csv").unlink()
    record = {**store.records[second], "provenance": {**store.records[second]["provenance"], "threads": 7}}
    store.path(second).write_text(json.dumps(record))
    assert remade() == {first, second}
    assert "polyline" not in (out / "runs" / f"{first}.html").read_text()
    (out / run_pages.LIST).write_text("[]")
    assert remade() > {first, second}
    add_curve(store, first)
    store.path(second).write_text(to_json(store.records[second].plain))
    assert remade() == {first, second}
    assert {path: path.read_bytes() for path in out.rglob("[!.]*.*")} == before


def test_after_a_change_of_one_record_a_report_is_what_one_from_nothing_is(store, tmp_path):
    changed, *others = [key for key in store.records if "-" not in key]
    before = render(tmp_path / "out", "table7")
    record = store.records[changed].plain
    store.path(changed).write_text(to_json(record | {"metrics": {**record["metrics"], "miou_ss": 12.34}}))
    after = render(tmp_path / "out", "table7")
    assert after == render(tmp_path / "new", "table7")
    differ = {name for name in after if after[name] != before[name]}
    assert {name for name in differ if name.startswith("runs/")} == {f"runs/{changed}.html"}
    shown = {name for name in after if name.endswith((".html", ".md")) and b"12.34" in after[name]}
    assert {"table7.html", "every-run.html", "summary/table7.md", f"runs/{changed}.html"} <= shown <= differ
    assert not differ & {"appendix_table1.html", "others.html", "how-to-read.html", *(f"runs/{o}.html" for o in others)}


def test_a_difference_from_the_commit_is_shown_and_escaped(store, tmp_path):
    identifier = next(key for key in store.records if "-" not in key)
    record = store.records[identifier].plain
    store.path(identifier).write_text(
        json.dumps(record | {"provenance": {**record["provenance"], "diff": "+<b>x</b>"}})
    )
    assert "+&lt;b&gt;x&lt;/b&gt;" in render(tmp_path / "out", "table7")[f"runs/{identifier}.html"].decode()


def test_attempts_nodes_and_logs_show_only_when_asked_for(store, tmp_path):
    identifier = next(key for key in store.records if "-" not in key)
    workspace = Workspace(identifier)
    for cause in ("out_of_memory", "done"):
        with workspace.attempt() as entry:
            entry.cause, entry.node, entry.message = cause, "gpu07", "too <large>"
    workspace.log.write_text("\n".join(f"line {number}" for number in range(100)))
    plain = render(tmp_path / "out", "table7")[f"runs/{identifier}.html"].decode()
    assert "gpu07" not in plain
    assert "line 99" not in plain
    assert build.main(["table7", "--out", str(tmp_path / "out"), "--logs"]) == 0
    told = (tmp_path / "out" / "runs" / f"{identifier}.html").read_text()
    for shown in ("gpu07", "out_of_memory", "too &lt;large&gt;", "line 99"):
        assert shown in told
    assert "line 1\n" not in told


def test_the_end_of_a_log_that_is_kept_is_shown_and_linked(store, tmp_path):
    first, second = [key for key in store.records if "-" not in key][:2]
    (store.folder / "logs").mkdir()
    printed = "".join(f"line <{number}>\n" for number in range(100))
    (store.folder / "logs" / f"{first}.txt.gz").write_bytes(gzip.compress(printed.encode()))
    (store.folder / "logs" / f"{second}.txt.gz").write_bytes(b"torn")
    files = render(tmp_path / "out", "table7")
    page = files[f"runs/{first}.html"].decode()
    assert "line &lt;99&gt;" in page
    assert "line &lt;9&gt;" not in page
    assert f"../../results/logs/{first}.txt.gz" in Page(page).links
    assert "cannot be read" in files[f"runs/{second}.html"].decode()


def test_weights_that_a_run_starts_from_are_one_link_away(store, tmp_path):
    first = add_run(store, STUDY, STUDY.row("c"), "paper", 0, 41.0)
    files = render(tmp_path / "out", "table7")
    assert f"runs/{first}.html" in files
    assert "Starts from" not in files[f"runs/{first}.html"].decode()  # nobody recorded its pretraining
    before = PROTOCOLS["paper"].run(STUDY.panel(), STUDY.row("c"), 0).init
    known = {"id": before.id, "config": canonical(before), "metrics": {"top1": 75.0}, "classes": []}
    store.add({**store.records[first], **known})
    files = render(tmp_path / "out", "table7")
    assert f"{before.id}.html" in Page(files[f"runs/{first}.html"].decode()).links
    assert "75.00" in files[f"runs/{before.id}.html"].decode()


def test_pending_rows_say_how_their_runs_ended_and_when_asked_which_run_now(store, tmp_path):
    first, second = (Workspace(PROTOCOLS["paper"].run(STUDY.panel(), STUDY.row("c"), seed).id) for seed in range(2))
    for workspace in (first, second):
        with workspace.attempt() as entry:
            entry.cause, entry.node, entry.message = "diverged", "gpu07", "the loss is not finite"
    add_run(store, STUDY, STUDY.row("a"), "paper", 0, 40.0)
    files = render(tmp_path / "out", "table7")
    assert "pending (2 failed: diverged)" in files["summary/table7.md"].decode()
    assert "pending (2 failed: diverged)" in files["table7.tex"].decode()
    with second.claim():
        assert render(tmp_path / "out", "table7") == files  # what passes is not committed
        assert build.main(["table7", "--out", str(tmp_path / "out"), "--logs"]) == 0
    assert "pending (1 failed: diverged, 1 running)" in (tmp_path / "out" / "summary" / "table7.md").read_text()


def test_what_processes_make_is_what_one_makes_in_the_same_order():
    held = list(range(100, 150))  # not sent: the processes are forks
    with spread(lambda place: (held[place] ** 2, os.getpid()), len(held), at_least=1) as made:
        apart = made()
    assert [value for value, _ in apart] == [value**2 for value in held]
    assert os.getpid() not in {process for _, process in apart}
    with spread(lambda place: os.getpid(), 3, at_least=4) as made:
        assert made() == [os.getpid()] * 3
