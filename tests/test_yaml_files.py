"""YAML of others: no file stands for more than it looks."""

import time

import pytest
import yaml

from rrsis_zoo.cli import run
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.yaml_files import check_yaml, read_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))


def written(folder, text):
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_is_read(tmp_path):
    text = "a: &shared {x: 1, y: [1.5, two]}\nb: *shared\nc: {<<: *shared, z: 2}\n"
    expected = {"x": 1, "y": [1.5, "two"]}
    assert read_yaml(written(tmp_path, text)) == {"a": expected, "b": expected, "c": expected | {"z": 2}}
    assert read_yaml(written(tmp_path, b"\xef\xbb\xbfa: 1\n")) == {"a": 1}
    assert read_yaml(written(tmp_path, "")) is None
    assert read_yaml(written(tmp_path, '{"a": [1, 2]}'), loader=yaml.SafeLoader) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "stands for more than 50,000 values"),
        (MERGES, "stands for more than 50,000 values"),
        ("[" * 100_000, "nested more than 50 levels"),
        ("".join(f"{'  ' * i}a:\n" for i in range(60)), "nested more than 50 levels"),
        ("a: &a [1, *a]", "contains itself"),
        ("x" * 300_000, "more than 256 KiB"),
        ("a: " + "1:" * 5000 + "1", "unquoted value"),
        ("a: !!int '" + "1:" * 5000 + "1'", "unquoted value"),
        ("a: [1", "is not YAML"),
        ("a: *b", "is not YAML.*undefined alias"),
        ("a: 2001-99-99", "is not YAML"),
        ("a: !!python/object/apply:os.system ['true']", "is not YAML.*python/object"),
        (b"a: \xff", "not UTF-8"),
    ],
)
def test_what_is_refused_at_once(tmp_path, text, words):
    started = time.perf_counter()
    with pytest.raises(DataFormatError, match=words):
        read_yaml(written(tmp_path, text), DataFormatError)
    assert time.perf_counter() - started < 2


def test_no_file(tmp_path):
    with pytest.raises(MissingDataError):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)


def test_a_text_that_is_no_yaml_is_left_to_the_loader():
    check_yaml("a: [1", "x")
    check_yaml("@", "x")
    with pytest.raises(ConfigError, match="the argument --x is nested"):
        check_yaml("[" * 60, "the argument --x")


@pytest.mark.parametrize(("text", "words"), [(BOMB, "50,000 values"), ("[" * 100, "50 levels"), (b"\xff", "not UTF-8")])
def test_the_weights_of_a_config(tmp_path, text, words):
    """What `rrsis models fetch CONFIG` reads, and a config that it names."""
    written(tmp_path, text)
    (tmp_path / "outer.yaml").write_text("model: a.yaml\n")
    for name in ("a.yaml", "outer.yaml"):
        with pytest.raises(ConfigError, match=rf"a\.yaml .*{words}"):
            run(["models", "fetch", str(tmp_path / name)])
