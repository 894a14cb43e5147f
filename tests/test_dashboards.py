"""The workspace as W&B would get it, without a network."""

import json
import socket

import pytest

from rrsis_zoo.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def run(dashboards, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["dashboards.py", *arguments])
    return dashboards.main()


def test_printed(dashboards, monkeypatch, capsys):
    assert run(dashboards, monkeypatch, "--entity", "somebody", "--project", "ships", "--print") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["entity"], said["project"], said["displayName"]) == ("somebody", "ships", "rrsis-zoo")
    sections = said["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [
        "Quality by protocol",
        "Training",
        "Gradients",
        "Predictions",
        "Per category",
    ]
    bars = sections[0]["panels"][0]
    assert bars["viewType"] == "Bar Chart"
    assert bars["config"]["metrics"] == ["test/miou"]
    assert "protocol" in bars["config"]["groupBy"]
    assert sections[3]["panels"][0]["config"]["mediaKeys"] == ["val/predictions"]
    assert "test/per_category" in json.dumps(sections[4])


def test_every_panel_names_something(dashboards):
    made = dashboards.workspace("somebody", "ships")
    for section in made.sections:
        for panel in section.panels:
            alone = type(made)(entity="e", project="p", sections=[type(section)(name="x", panels=[panel])])
            named, patterns = dashboards.keys(alone)
            assert named or patterns, panel


def test_without_an_account(dashboards, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="wandb login"):
        run(dashboards, monkeypatch, "--entity", "somebody")
