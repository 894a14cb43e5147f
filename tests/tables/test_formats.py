import csv
import html.parser
import io
import re
from typing import ClassVar

import pytest
from markdown_it import MarkdownIt

from rrsis_zoo.tables.formats import Cell, Column, Prose, Table, caption, exact, number, prose
from rrsis_zoo.tables.suite_tables import write_tables


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


# -- what others wrote -------------------------------------------------------------------------------------------------

LINK, IMAGE, TAG = "[x](javascript:alert(1))", "![](http://evil.example/a.png)", "<img src=x onerror=alert(1)>"
HOSTILE = f"{LINK} {IMAGE} {TAG} **b** `c` $d$ \\input{{e}} % | {{}}\n# f\n| g |"


def hostile_table(text=HOSTILE):
    """The text in every place that a file of somebody else can reach."""
    return Table(
        "t",
        text,
        text,
        [Column(text, text, numeric=False)],
        [[Cell(text, mark="best", detail=text)]],
        [text],
        {text: text},
    )


def tags_of(html_text):
    class Tags(html.parser.HTMLParser):
        found: ClassVar = []

        def handle_starttag(self, tag, attrs):
            self.found.append((tag, dict(attrs)))

    Tags.found = []
    Tags().feed(html_text)
    return Tags.found


def test_markdown_of_others_is_no_markup():
    said = MarkdownIt("commonmark", {"html": True}).enable("table").render(hostile_table().markdown())
    found = {tag for tag, _ in tags_of(said)}
    # the bold is our mark; of the caption, which may mark up so much, bold and code
    assert found == {"h2", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "strong", "code"}
    assert not any("on" in name for _, attributes in tags_of(said) for name in attributes)
    assert said.count("<h2>") == 1
    assert said.count("<td") == 1


def test_html_of_others_is_no_markup():
    found = {tag for tag, _ in tags_of(hostile_table().html())}
    assert found == {
        "section", "h2", "div", "table", "thead", "tbody", "tr", "th", "strong", "small", "ul", "li", "p", "code",
    }  # fmt: skip
    assert '<p class="caption">' in hostile_table().html()


@pytest.mark.parametrize("rows", [1, 50])
def test_latex_of_others_is_no_command(rows):
    text = Table(
        "t", HOSTILE, HOSTILE, [Column(HOSTILE, HOSTILE)], [[Cell(HOSTILE)]] * rows, [HOSTILE], {"a": HOSTILE}
    ).latex()
    assert r"\input" not in text
    assert r"\textbackslash{}input\{e\}" in text
    assert text.count("%") == 1 + text.count(r"\%")  # the first line is a comment of ours
    assert text.count("\n") < 40 + rows
    depth = 0
    for sign in re.sub(r"\\[{}]", "", text.replace(r"\\", "")):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("name", ["a b", "x} \\input{y", "../up", "a%b", "", "a\nb"])
def test_a_name_that_breaks_out_of_label_file_and_address_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="not a valid table name"):
        table(Cell("x"), name=name)
    (written,) = write_tables({name: table(Cell("x"))}, tmp_path / "out", ["md"])
    assert written.parent == tmp_path / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_spreadsheets_compute_no_text():
    given = Table(
        "t", "T", "", [Column("=1+1", "a"), Column("b", "b")], [[Cell("@x"), Cell("−1.5", -1.5)]], (), {"-c": "+d"}
    )
    rows = list(csv.reader(io.StringIO(given.csv())))
    assert rows == [["'=1+1", "b", "'-c"], ["'@x", "-1.5", "'+d"]]


def test_prose_is_ours_by_its_type():
    """Markup is in what this program says; a text of others in it is shown, also inside of the markup."""
    ours = prose("see `{name}` and **{name}**, *ours* [{name}] < 1", name=LINK)
    given = table(Cell(ours), notes=[ours, str(ours)])
    said = MarkdownIt("commonmark", {"html": True}).enable("table").render(given.markdown())
    ours_again, theirs = re.findall(r"<li>(.*?)</li>", said)
    assert f"<code>{LINK}</code>" in ours_again
    assert f"<strong>{LINK}</strong>, <em>ours</em> [{LINK}] &lt; 1" in ours_again
    assert theirs == f"see `{LINK}` and **{LINK}**, *ours* [{LINK}] &lt; 1"  # as a plain text it is anybody's
    assert f"<li>see <code>{LINK}</code> and <strong>{LINK}</strong>, <em>ours</em>" in given.html()
    assert r"see \texttt{{[}x]" in given.latex()
    assert prose("{a} b", a="x") == "x b"
    assert (ours + "")[:3] == "see"
    assert not isinstance(ours + "", Prose)


def test_a_caption_may_mark_up_so_much_and_no_more():
    given = caption(f"*mini* is `{TAG}`, **{TAG}** and {TAG}; 2 * 3 * 4, a_b_c")
    said = table(Cell("x"), caption=given).html()
    escaped = TAG.replace("<", "&lt;").replace(">", "&gt;")
    assert (
        f"<em>mini</em> is <code>{escaped}</code>, <strong>{escaped}</strong> and {escaped}; 2 * 3 * 4, a_b_c" in said
    )
    assert {tag for tag, _ in tags_of(said)} >= {"em", "code", "strong"}
    assert "img" not in {tag for tag, _ in tags_of(said)}
