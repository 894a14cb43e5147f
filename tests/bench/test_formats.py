import csv
import io

import pytest

from rrsis_zoo.bench.formats import Cell, Column, Table, exact, number


def table(cell, rows=1, columns=2, **more):
    head = [Column(f"c{i}", f"c{i}", numeric=i > 0) for i in range(columns)]
    given = {"title": "T", "caption": "", "name": "t", **more}
    return Table(columns=head, rows=[[cell] * columns for _ in range(rows)], **given)


def test_numbers():
    assert [number(-0.25, 1), number(1234.5, 0), number(3.14159, 2, sign=True)] == ["−0.2", "1,234", "+3.14"]
    assert [exact(3.0), exact(1 / 3), exact(-2.5), exact(551024)] == ["3", "0.3333333333", "-2.5", "551024"]


@pytest.mark.parametrize(
    ("mark", "markdown", "latex", "html"),
    [
        ("", "| 1.5 |", "& 1.5 ", ">1.5<"),
        ("best", "| **1.5** |", r"& \textbf{1.5} ", '<strong class="best">1.5</strong>'),
        ("tied", "| *1.5* |", r"& \emph{1.5} ", '<em class="tied">1.5</em>'),
        ("second", "| <ins>1.5</ins> |", r"& \underline{1.5} ", '<u class="second">1.5</u>'),
    ],
)
def test_marks(mark, markdown, latex, html):
    given = table(Cell("1.5", 1.5, mark))
    assert markdown in given.markdown()
    assert latex in given.latex()
    assert html in given.html()
    (line,) = csv.DictReader(io.StringIO(given.csv()))
    assert (line["c1"], line.get("c1_mark", "")) == ("1.5", mark)


def test_nothing_breaks_out_of_a_cell():
    nasty = r"a|b <b> & 50 % $x_1$ {~^} \end #1 “é” ≥ − × …" + "\nnext"
    given = table(Cell(nasty), notes=[nasty], caption=f"`{nasty}`", provenance={"some thing": "12" * 20})
    line = next(line for line in given.markdown().splitlines() if line.startswith("| a"))
    assert line.replace(r"\|", "").count("|") == 3
    assert "<b>" not in line
    assert "&lt;b&gt; &amp; 50 %" in given.html()
    assert "<b>" not in given.html()
    tex = given.latex()
    assert r"a$|$b $<$b$>$ \& 50 \% \$x\_1\$ \{\textasciitilde{}\textasciicircum{}\} \textbackslash{}end \#1" in tex
    assert r"``é'' $\geq$ $-$ $\times$ \ldots{} next" in tex
    read = list(csv.reader(io.StringIO(given.csv())))
    assert read[1][0] == nasty
    assert read[0][-1] == "some_thing"
    assert read[1][-1] == "12" * 20
    assert "some thing 121212121212" in given.markdown().splitlines()  # cut for people, whole in the CSV


def test_prose():
    given = table(Cell("x"), caption="see `a_b` and **not & never**")
    assert "see <code>a_b</code> and <strong>not &amp; never</strong>" in given.html()
    assert r"see \texttt{a\_b} and \textbf{not \& never}" in given.latex()
    assert "see `a_b` and **not & never**" in given.markdown()


def test_long_and_wide_tables():
    assert r"\begin{longtable}" in table(Cell("x"), rows=46).latex()
    assert r"\usepackage{booktabs,longtable}" in table(Cell("x"), rows=46).latex()
    assert r"\begin{table*}[t]" in table(Cell("x"), columns=7).latex()
    assert r"\begin{table}[t]" in table(Cell("x")).latex()
    broken = Table("t", "T", "", [Column("a", "a title of many words & more", False)], [[Cell("x")]])
    assert r"\shortstack[l]{a title of many\\words \& more}" in broken.latex()


def test_details_have_columns_of_their_own_in_the_csv():
    given = table(Cell("2.0", 2.0, detail="± 0.5 [1.0, 3.0]", low=1.0, high=3.0, deviation=0.5))
    assert given.csv().splitlines() == [
        "c0,c0_deviation,c0_low,c0_high,c1,c1_deviation,c1_low,c1_high",
        "2,0.5,1,3,2,0.5,1,3",
    ]
    assert "| 2.0 ± 0.5 [1.0, 3.0] |" in given.markdown()
    assert r"2.0 {\scriptsize $\pm$ 0.5 {[}1.0, 3.0]}" in given.latex()
    assert '2.0 <small class="detail">± 0.5 [1.0, 3.0]</small>' in given.html()


def test_rows_have_as_many_cells_as_there_are_columns():
    with pytest.raises(ValueError, match="2 cells"):
        Table("t", "T", "", [Column("a", "a"), Column("b", "b")], [[Cell("x")]])
