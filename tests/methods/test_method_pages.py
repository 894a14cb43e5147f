"""Commands and Python on the pages of methods: they run, or say what is missing and how it is fetched."""

import re
import shlex

import pytest

import warm
from rrsis_zoo.data.synthetic import make_synthetic
from rrsis_zoo.methods.registry import list_models


def blocks(root, language):
    """(method, block) of all pages."""
    return [
        (name, block)
        for name in list_models()
        for block in re.findall(
            rf"```{language}\n(.*?)```", (root / "docs" / "methods" / f"{name}.md").read_text("utf-8"), re.DOTALL
        )
    ]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "set"
    make_synthetic(folder, scenes=4, splits=(1, 1, 2), processes=1)
    return folder


def test_commands(root, scenes, tmp_path):
    """Without a network: weights that are not here are named with the command that fetches them."""
    found = blocks(root, "sh")
    assert {"think2seg", "sam3_zeroshot"} <= {name for name, _ in found}
    for _, block in found:
        program, *words = shlex.split(block.replace("\\\n", " "), comments=True)
        assert program == "rrsis"
        words = [str(root / word) if word.startswith("configs/") else word for word in words]
        words = [str(scenes) if word.startswith("/path/to/") else word for word in words]
        synthetic = any("synthetic" in word for word in words)
        if not synthetic:
            words += ["--data.dataset", "synthetic"]
        else:
            words += ["--data.root", str(scenes)]
        done = warm.command(words, tmp_path, HF_HUB_CACHE=tmp_path / "hub")
        if synthetic:
            assert done.returncode == 0, done.stderr
        else:
            assert done.returncode == 2, done.stderr
            assert "hf download" in done.stderr
            assert "licence" in done.stderr


def test_python(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    found = blocks(root, "python")
    assert found
    for name, block in found:
        exec(compile(block, f"docs/methods/{name}.md", "exec"), {})
    assert "(1, 256, 256)" in capsys.readouterr().out
