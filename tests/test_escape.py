"""What others wrote, in Markdown, LaTeX and CSV: shown as it is, whatever it holds."""

import csv
import html.parser
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rrsis_zoo.escape import csv_text, latex, markdown, markdown_block, markdown_code, one_line, slug

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![](http://evil.example/track.png)",
    "![x][y]",
    "<javascript:alert(1)>",
    "<https://evil.example>",
    "see https://evil.example/x_y and www.evil.example now",
    "mail somebody@evil.example now",
    "[1]: javascript:alert(1)",
    "[95 %](javascript:alert(1))",
    "a | b || c",
    "`code` and ``more``",
    "*a* **b** _c_ __d__ ~~e~~ <ins>f</ins>",
    "$x^2$ and $$y$$",
    "&lt;b&gt; &#60;b&#62; &amp;",
    "# heading",
    "> quotation",
    "- item",
    "+ item",
    "1. item",
    "---",
    "===",
    "    indented",
    "\\",
    "\\*not emphasis\\*",
    "end with \\",
    "a\n\n# b\n| c | d |",
    "a\u2028b\u0085c",
    "{eval}`1+1`",
    "```\nfenced",
    "[^1]",
    "[x]{.class}",
]
WORDS = st.lists(
    st.sampled_from([*"[]()<>!`*_~|\\&;:/.@#-+=$^{}\"'% \n1ax", "http://", "www.", "&lt;", "**", "](", "\u202e"]),
    max_size=24,
).map("".join)
HTML = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
PLACES = {
    "cell": ("| a | b |\n|---|---|\n| {} | last |\n", "td"),
    "head": ("| a | {} |\n|---|---|\n| x | y |\n", "th"),
    "item": ("* {}\n", "li"),
    "heading": ("## {}\n", "h2"),
    "paragraph": ("{}\n", "p"),
}


class Page(html.parser.HTMLParser):
    """Tags of a page, and the text in it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def shown(template, text):
    page, empty = (Page(HTML.render(template.format(words))) for words in (markdown(text), "x"))
    assert page.tags == empty.tags  # nothing became a tag
    return page.text.strip()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_it(place, text):
    template, _ = PLACES[place]
    assert one_line(text) in " ".join(shown(template, text).split())


@given(WORDS, st.sampled_from(sorted(PLACES)))
@example("x_", "cell")
def test_markdown_shows_anything(text, place):
    if not one_line(text):
        return
    template, _ = PLACES[place]
    assert one_line(text) in " ".join(shown(template, text).split())


def test_no_address_is_left_for_github_to_make_a_link_of():
    for text in HOSTILE:
        assert not re.search(r"(?i)https?://|\bwww\.|\w@\w+\.[a-z]", markdown(text)), text


def test_what_is_harmless_stays_readable():
    for text in (
        "RSRefSeg (mini), shuffled",
        "53.9 ± 1.0 [51.2, 56.3]",
        "Pr@0.5",
        "new_1 (100 %) & more",
        "−0.2",
        "-1.5",
    ):
        assert markdown(text) == text
        assert csv_text(text) == text


@given(st.text())
@example("```\n# out")
@example("`")
@example(" ` ")
def test_code_is_not_left(text):
    span, block = Page(HTML.render(markdown_code(text) + " end")), Page(HTML.render(markdown_block(text) + "\n\nend"))
    assert set(span.tags) <= {"p", "code"}
    assert block.tags == ["pre", "code", "p"]
    assert block.text.rstrip().endswith("end")
    assert " ".join(one_line(text).split("\x00")) in " ".join(span.text.split()) or not one_line(text)


@pytest.mark.parametrize(
    "text", [*HOSTILE, r"\input{/etc/passwd}", "} \\end{table}", "50 % of it", "^^5cinput", "a&b", "* [x]"]
)
def test_latex_obeys_nothing(text):
    """What is left, when the signs of our own are taken away, has no sign that LaTeX knows."""
    left = latex(text)
    assert "\n" not in left
    for ours in (
        r"\textbackslash{}",
        r"\textasciitilde{}",
        r"\textasciicircum{}",
        r"\ldots{}",
        "$<$",
        "$>$",
        "$|$",
        "{[}",
        "{*}",
    ):
        left = left.replace(ours, "")
    left = re.sub(r"\\[&%$#_{}]", "", left)
    assert not set(left) & set("\\&%$#_{}~^")
    assert not latex(text).startswith(("[", "*"))  # a row's first cell, after the line break of the one before


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "\n=1+1", "＝1+1", '=HYPERLINK("http://x")', "-"],
)
def test_a_spreadsheet_computes_nothing(text):
    out = io.StringIO()
    csv.writer(out).writerow([csv_text(text), "next"])
    (row,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert row == [f"'{text}", "next"]


@pytest.mark.parametrize("text", ["-1.5", "+3", "1e-5", "-2.5E+3", "", "ship", "a-b", "7.", "two\nlines"])
def test_numbers_and_words_stay_what_they_are(text):
    assert csv_text(text) == text


def test_what_cannot_be_seen_is_replaced():
    assert one_line("a\x1b[31mb\u202ec\ud800d\x00") == "a�[31mb�c�d�"
    assert csv_text("a\x1bb\x00") == "a�b�"


def test_names_of_files_and_labels():
    assert [slug(name) for name in ("rrsis-d", "main--one", "a.b_c")] == ["rrsis-d", "main--one", "a.b_c"]
    odd = ["../up", "a/b", "a b", "a b ", "} \\input{x}", "", ".hidden", "x" * 300, "è", "-x"]
    made = [slug(name) for name in odd]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) for name in made)
    assert [slug(name) for name in made] == made
