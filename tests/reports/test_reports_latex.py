r"""LaTeX: every table compiles alone and by `\input`, stays on its page, and every character is there."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from records import fabricate
from reporting import render

from reports.blocks.table import Cell, Column, Line, Table
from reports.write.latex import escape, latex

PDFLATEX = shutil.which("pdflatex")
HEAVY = 5.0  # points beyond its column at which a word is seen to stick out
PACKAGES = r"\usepackage{array,booktabs,graphicx,longtable,pdflscape,xcolor}"
AWKWARD = r"""a&b\ {c} $5 #1 50 % x_i x^2 ~ <i> | [r] × ± − ≤ ≥ ε ² – — ’ “q” "q" … † · → --only 1×1"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Every .tex of a report on every study: three seeds of Table 7 under two protocols, everything else pending."""
    folder = tmp_path_factory.mktemp("latex")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGNEXT_RESULTS", str(folder / "results"))
        for protocol in ("quick", "paper"):
            fabricate(folder / "results", protocol=protocol)
        return {name: text.decode() for name, text in render(folder / "out").items() if name.endswith(".tex")}


def compiled(folder: Path, text: str) -> str:
    """What pdflatex said about a document that it could make."""
    (folder / "document.tex").write_text(text)
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "document"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    said = re.sub(r"(?<=.{79})\n", "", done.stdout)  # its lines end there
    assert not re.search(r"Missing character|too large|multiply defined|undefined", said), said
    return said


def sticking_out(said: str) -> float:
    """The widest box that does not fit, in points."""
    return max((float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said)), default=0.0)


def long_table(lines: int) -> Table:
    columns = (Column("Row", align="text"), Column("printed", "mIoU"), Column("Why", align="text"))
    texts = itertools.cycle((AWKWARD, "very long words " * 20, "a_name_without_any_space_" * 3))
    body = (Line(f"r{place}", (Cell(next(texts), note=1), Cell("−2 ± 1"), Cell(next(texts)))) for place in range(lines))
    return Table(f"t{lines}", f"Title {AWKWARD}", (AWKWARD,), columns, tuple(body), (AWKWARD,))


@pytest.mark.skipif(not PDFLATEX, reason="no pdflatex here: apt-get install texlive-latex-recommended")
def test_every_table_compiles_alone_and_by_input(files, tmp_path):
    assert len(files) > 18
    for name, text in files.items():
        assert sticking_out(compiled(tmp_path, text)) < HEAVY, name
        (tmp_path / name).write_text(text)
    inputs = "\\clearpage\n".join(rf"Words.\input{{{name}}}" for name in files)
    said = compiled(tmp_path, rf"\documentclass{{article}}{PACKAGES}\begin{{document}}{inputs}\end{{document}}")
    assert sticking_out(said) < HEAVY


@pytest.mark.skipif(not PDFLATEX, reason="no pdflatex here: apt-get install texlive-latex-recommended")
@pytest.mark.parametrize("lines", [3, 200])
def test_awkward_words_compile_and_a_long_table_breaks_over_pages(tmp_path, lines):
    said = compiled(tmp_path, latex("t.tex", [long_table(lines)]))
    assert sticking_out(said) < HEAVY
    assert (int(re.search(r"Output written on .*\((\d+) page", said)[1]) > 3) == (lines > 100)


def test_latex_is_plain_ascii(files):
    for name, text in {**files, "awkward": escape(AWKWARD)}.items():
        assert text.isascii(), name


def test_latex_spans_notes_and_grey():
    columns = (Column("Row", align="text"), Column("printed", "A"), Column("ours", "A"))
    first = Line("r", (Cell("[r]", note=1), Cell("1"), Cell("−2 ± 1")))
    pending = Line("p", (Cell("p"), Cell("1"), Cell("pending", verdict="pending")))
    peer = Line("q", (Cell("peer"), Cell("1"), Cell()), quoted=True)
    text = latex("t.tex", [Table("t", "Title", ("50 % of x_i.",), columns, (first, pending, peer), ("N&M",))])
    assert r" & \multicolumn{2}{c}{A} \\" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"{[}r{]}\textsuperscript{1} & 1 & \(-\)2 \(\pm\) 1 \\" in text
    assert r"p & 1 & \textcolor[gray]{0.45}{pending} \\" in text
    assert r"\textcolor[gray]{0.45}{peer} & \textcolor[gray]{0.45}{1} & \textcolor[gray]{0.45}{--} \\" in text
    assert r"50 \% of x\_\allowbreak{}i." in text
    assert r"\textsuperscript{1} N\&M" in text
