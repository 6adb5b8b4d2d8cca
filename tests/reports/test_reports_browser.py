"""The page in a real browser, from `file://`: nothing fails, tables sort, both themes, print, keyboard, names."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, chromium
from PIL import Image
from records import fabricate, two_rows
from reporting import Page, render

from reports import compare
from studies.declare.protocols import PROTOCOLS
from studies.records.workspace import Workspace
from studies.tables.table7 import STUDY

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")
TABLE = "table7-quick"
WIDER = """[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1)
  .map(one => one.querySelector('table').id)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(folder / "results"))
        fabricate(folder / "results", curves=True)
        render(folder / "out", "table7", drawn=True)
    return folder / "out"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.media()
    browser.open(report / "table7.html")
    return browser


def names(page: Browser, column: int = 0) -> list[str]:
    return page.run(f"[...document.querySelectorAll('#{TABLE} tbody tr')].map(r => r.cells[{column}].innerText.trim())")


@pytest.mark.parametrize("width", [400, 600, 800, 1280, 1700])
def test_nothing_fails_and_the_page_itself_never_scrolls_sideways(browser, report, width):
    for path in (*report.glob("*.html"), *(next((report / "runs").glob(kind)) for kind in ("cost-*", "[!c]*"))):
        browser.open(path, width)
        assert browser.problems == []
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth"), path.name
        if width >= 800:
            assert browser.run(WIDER) == [], path.name


@pytest.mark.parametrize("width", [800, 1280])
def test_a_comparison_never_scrolls_sideways(browser, tmp_path, width):
    two_rows(tmp_path / "a")
    two_rows(tmp_path / "a-rather-long-name-of-a-folder" / ("of-results-" * 8), shift=2.0, seeds=(5, 6, 7))
    folders = [str(path) for path in (tmp_path / "a", *tmp_path.glob("a-*/*"))]
    assert compare.main([*folders, "--out", str(tmp_path / "out")]) == 1
    browser.open(tmp_path / "out" / "index.html", width)
    assert browser.problems == []
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_every_link_of_every_page_resolves(report):
    pages = {path: Page(path.read_text()) for path in report.rglob("*.html")}
    assert len(pages) == 11 + 4 + 4 * 3  # pages of the report, records
    for path, page in pages.items():
        for link in page.links:
            file, _, anchor = link.partition("#")
            if file.startswith("https://"):  # where others published
                continue
            target = (path.parent / file).resolve() if file else path.resolve()
            assert target.exists(), link
            assert not anchor or anchor in pages[target if target in pages else path].ids, f"{path.name}: {link}"


def test_columns_sort_up_down_and_back(page):
    heading = f"document.querySelectorAll('#{TABLE} thead tr:last-child th')[3]"
    before, values = names(page), names(page, 3)
    numbers = [float(value.split(" ")[0]) for value in values]
    assert numbers != sorted(numbers)
    for state, expected in (("ascending", sorted(numbers)), ("descending", sorted(numbers, reverse=True))):
        page.run(f"{heading}.querySelector('button').click()")
        assert page.run(f"{heading}.ariaSort") == state
        assert [float(value.split(" ")[0]) for value in names(page, 3)] == expected
    page.run(f"{heading}.querySelector('button').click()")
    assert names(page) == before
    assert page.run(f"{heading}.ariaSort") is None


def test_unknown_values_stay_last_and_pending_ones_too(page, report):
    page.open(report / "claims.html")
    heading = "document.querySelectorAll('#claims thead tr:last-child th')[4]"
    for _ in range(2):
        page.run(f"{heading}.querySelector('button').click()")
        ours = page.run("[...document.querySelectorAll('#claims tbody tr')].map(r => r.cells[4].innerText.trim())")
        known = [value != "–" for value in ours]
        assert known == sorted(known, reverse=True)


def test_a_keyboard_reaches_and_sorts(page):
    page.run(f"document.querySelector('#{TABLE} thead button').focus()")
    page.press("Enter", 13)
    assert names(page) == sorted(names(page))
    page.press("Tab", 9)
    assert page.run("document.activeElement.tagName") == "BUTTON"
    assert page.run(f"document.activeElement.closest('table').id == '{TABLE}'")


def test_lines_are_chosen_by_keyboard_and_a_link_opens_what_is_folded(page, report):
    page.open(report / "claims.html")
    shown = "[...document.querySelectorAll('#claims tbody tr')].filter(r => !r.hidden).length"
    page.run("document.querySelectorAll('.choices select')[0].focus()")
    before = page.run(shown)
    page.press("ArrowDown", 40)
    assert page.run("document.activeElement.value") != ""
    chosen = page.run(shown)
    assert 0 < chosen <= before
    assert page.run("document.querySelector('.choices [role=status]').innerText") == f"{chosen} of {before} lines"
    page.press("ArrowUp", 38)
    assert page.run(shown) == before
    page.open(report / "table7.html")
    page.run("location.hash = '#table7-costs-c'")
    page.run("new Promise(resolve => setTimeout(resolve, 100))")
    assert page.run("document.getElementById('table7-costs-c').closest('details').open")


def test_a_long_table_scrolls_within_the_screen_below_its_headings(page, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    fabricate(tmp_path / "results", seeds=16)
    render(tmp_path / "out", "table7")
    page.open(tmp_path / "out" / "every-run.html", 1280, 800)
    assert page.run("document.documentElement.scrollHeight") < 1000
    page.run("document.querySelector('.tall').scrollTop = 2000")
    top = page.run("document.querySelector('.tall').getBoundingClientRect().top")
    assert page.run("document.querySelector('.tall thead th').getBoundingClientRect().top") == pytest.approx(top, abs=2)


def test_the_first_screen_of_a_study_shows_what_was_measured_and_is_small(page, report):
    page.open(report / "index.html", 1280, 800)
    assert (report / "index.html").stat().st_size < 400_000
    assert page.run("document.documentElement.scrollHeight") < 3000
    assert "Measured here, Table 7: 12 runs" in page.run("document.querySelector('.headline').innerText")
    assert page.run("document.querySelector('.headline').getBoundingClientRect().bottom") < 300


@pytest.mark.long
def test_the_five_answers_about_the_paper_fit_one_screen_and_no_page_is_endless(browser, tmp_path, monkeypatch):
    monkeypatch.delenv("SEGNEXT_RESULTS", raising=False)
    render(tmp_path / "out", drawn=True)
    for width, height in ((1280, 800), (1366, 768)):
        browser.open(tmp_path / "out" / "index.html", width, height)
        for answer in (".headline", "#measured", "#wrong", "#next", "#map", "figure", ".first"):
            assert browser.run(f"document.querySelector('{answer}').getBoundingClientRect().bottom") <= height, answer
    tall = {}
    for path in (tmp_path / "out").glob("*.html"):
        browser.open(path, 1280, 800)
        tall[path.name] = browser.run("document.documentElement.scrollHeight")
    assert {name for name, pixels in tall.items() if pixels > 3600} <= {"appendix_table1.html"}  # every recipe


@pytest.mark.parametrize("seeds", [0, 1, 3, 10])
def test_pages_hold_with_any_number_of_seeds_and_with_stale_code(browser, tmp_path, monkeypatch, seeds):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    fabricate(tmp_path / "results", protocol="paper", seeds=seeds)
    render(tmp_path / "out", "table7")
    for width in (400, 800, 1280):
        browser.open(tmp_path / "out" / "table7.html", width)
        assert browser.problems == []
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert width < 800 or browser.run(WIDER) == []
    page = (tmp_path / "out" / "table7.html").read_text()
    missing = page.partition('<div class="missing">')[2].partition("</div>")[0]
    assert ("python -m studies.run table7</code>" in missing) == (seeds < 3)
    assert bool(seeds) == ("stale code" in page)


def test_a_failed_run_is_shown_with_its_cause_and_what_mends_it(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGNEXT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SEGNEXT_RUNS", str(tmp_path / "runs"))
    fabricate(tmp_path / "results", seeds=1)
    for seed, cause in ((1, "diverged"), (2, "diverged"), (3, "stopped")):
        run = PROTOCOLS["quick"].run(STUDY.panel(), STUDY.row("c"), seed)
        with Workspace(run.id).attempt() as entry:
            entry.cause, entry.message = cause, "the loss is not finite"
    render(tmp_path / "out", "table7")
    for width in (400, 1280):
        browser.open(tmp_path / "out" / "table7.html", width)
        assert browser.problems == []
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    shown = browser.run("document.querySelector('.missing').innerText")
    assert "2 runs of SegNeXt-T (c), protocol quick, failed: the loss is not finite" in shown
    assert "python -m studies.run table7 --rows c --protocol quick --retry diverged" in shown
    assert "stopped" not in shown  # the same command goes on with it


def test_a_screen_reader_is_told_names(page):
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {"table", "image", "region", "button", "link", "progressbar", "navigation", "heading"}
    found = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    assert named <= {role for role, _ in found}
    assert [role for role, name in found if role in named and not name.strip()] == []
    levels = page.run("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_light_dark_and_print(page):
    colours = {}
    for kind, scheme in (("", "light"), ("", "dark"), ("print", "dark")):
        page.media(kind, scheme)
        colours[kind or scheme] = page.run("getComputedStyle(document.body).backgroundColor")
    assert colours["light"] == colours["print"] == "rgb(255, 255, 255)"
    assert max(map(int, colours["dark"][4:-1].split(","))) < 64
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.media("", "dark")
    pixels = Image.open(io.BytesIO(page.screenshot())).convert("L")
    assert len(pixels.getcolors()) > 16  # something is drawn
    assert sum(pixels.histogram()[:64]) > pixels.width * pixels.height / 2


CONTRAST = """(() => {
  const light = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0.05);
  const page = light(getComputedStyle(document.body).backgroundColor);
  const words = [...document.querySelectorAll("body *")].filter(one => one.innerText?.trim());
  const shades = words.map(one => light(getComputedStyle(one).color));
  return Math.min(...shades.map(shade => Math.max(shade, page) / Math.min(shade, page)));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_and_focus_is_seen(page, scheme):
    page.media("", scheme)
    assert page.run(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
    page.run("document.querySelector('main a').focus({focusVisible: true})")
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
