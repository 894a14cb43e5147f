"""What the documentation says to type: the commands are understood, the program gets its answer."""

import re
import shlex
from pathlib import Path

from rrsis_zoo.commands.demo import MODEL, PORT, _parser
from rrsis_zoo.demo.answers import MOST_SENTENCES, Desk
from rrsis_zoo.demo.pictures import PIXEL_LIMIT
from rrsis_zoo.demo.server import HOST, Page

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "start" / "demo.md").read_text(encoding="utf-8")


def test_the_commands_are_understood():
    lines = re.findall(r"^(rrsis demo.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    given = [_parser().parse_args(shlex.split(line)[2:]) for line in lines]
    assert (given[0].model, given[0].port) == (MODEL, PORT)
    assert (given[2].compare, given[3].port) == ("mini:rsrefseg2", 8000)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "`rrsis demo`" in readme
    assert "(docs/start/demo.md)" in readme


def test_the_numbers_are_those_of_the_code():
    assert f"http://{HOST}:{PORT}/" in PAGE
    assert f"{PIXEL_LIMIT / 1e6:.1f} million pixels (4096 x 4096)" in PAGE
    assert PIXEL_LIMIT == 4096**2
    assert MOST_SENTENCES == 16


def test_the_program_gets_its_answer(monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(ROOT)
    with Page(Desk([MODEL]), MODEL, None, 0) as page:
        code = code.replace(f"http://{HOST}:{PORT}/", page.url)
        exec(compile(code, "demo.md", "exec"), {})
    scores = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\[(0\.\d+|None), (0\.\d+|None)\]", scores)
