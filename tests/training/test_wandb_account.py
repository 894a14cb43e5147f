"""W&B's own switches: what they say is done, and an account is one at the server that is meant."""

import os
import tempfile
from types import SimpleNamespace

import pytest
import wandb

from rrsis_zoo.errors import ConfigError, OutputError
from rrsis_zoo.training.loggers import QuietWandbLogger, has_api_key, wandb_logger
from rrsis_zoo.training.wandb_account import wandb_mode

KEY = "k" * 40
CORP = "https://ml.corp.example"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder and a working folder of their own, without any switch."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    wandb.teardown()  # what other tests of this process left
    yield tmp_path / "home"
    wandb.teardown()


def netrc(home, *entries, name=".netrc"):
    (home / name).write_text("".join(f"{entry}\n  login user\n  password {KEY}\n" for entry in entries))
    (home / name).chmod(0o600)


def settings(folder, text):
    folder.mkdir(parents=True)
    (folder / "settings").write_text(f"[default]\n{text}\n")


# -- accounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "server", "there"),
    [
        ((), None, False),
        (("machine api.wandb.ai",), None, True),
        (("machine ml.corp.example",), CORP, True),
        (("machine ml.corp.example",), f"{CORP}/", True),
        (("machine ml.corp.example:8443",), f"{CORP}:8443", True),
        (("machine api.wandb.ai",), CORP, False),
        (("machine ml.corp.example",), None, False),
        (("machine wandb.corp.example",), None, False),
        (("machine wandb.corp.example",), "http://localhost:8080", False),
        (("machine github.com", "machine localhost:8080"), "http://localhost:8080", True),
        (("default",), CORP, True),
        (("machine github.com",), None, False),
    ],
)
def test_a_login_counts_at_its_server(home, monkeypatch, entries, server, there):
    netrc(home, *entries)
    if server:
        monkeypatch.setenv("WANDB_BASE_URL", server)
    assert has_api_key() is there
    assert wandb_mode(None) == ("online" if there else "offline")


def test_a_server_that_the_settings_files_name(home, tmp_path, monkeypatch):
    netrc(home, "machine ml.corp.example")
    assert not has_api_key()
    settings(home / ".config" / "wandb", f"base_url = {CORP}")
    assert has_api_key()
    settings(tmp_path / "work" / "wandb", "base_url = https://other.example")  # of the project, which comes first
    assert not has_api_key()
    monkeypatch.setenv("WANDB_BASE_URL", CORP)  # and the environment before both
    assert has_api_key()
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("WANDB_BASE_URL")
    assert not has_api_key()


def test_other_places_of_a_key(home, tmp_path, monkeypatch):
    netrc(home, "machine api.wandb.ai", name="elsewhere")
    monkeypatch.setenv("NETRC", str(home / "elsewhere"))
    assert has_api_key()
    monkeypatch.setenv("NETRC", str(home / "gone"))
    assert not has_api_key()
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert not has_api_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_api_key()
    monkeypatch.delenv("WANDB_API_KEY")
    (home / "token").write_text("token")
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", str(home / "token"))
    assert has_api_key()


def test_files_that_are_damaged(home):
    (home / ".netrc").write_text("machine\nmachine\n\x00 login")
    assert not has_api_key()
    (home / ".netrc").unlink()
    (home / ".netrc").mkdir()
    assert not has_api_key()


# -- switches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "account", "offline", "expected"),
    [
        ("disabled", True, None, "disabled"),
        ("disabled", True, True, "disabled"),
        ("disabled", False, False, "disabled"),
        ("offline", True, None, "offline"),
        ("dryrun", True, None, "offline"),
        ("online", True, None, "online"),
        ("run", True, None, "online"),
        ("shared", True, None, "shared"),
        ("online", True, True, "offline"),
        ("offline", True, False, "online"),
        ("", True, None, "online"),
        ("", False, None, "offline"),
        (None, True, False, "online"),
        (None, False, True, "offline"),
    ],
)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_what_the_switches_say(home, monkeypatch, mode, account, offline, expected, where):
    if account:
        netrc(home, "machine api.wandb.ai")
    if mode and where == "file":
        settings(home / ".config" / "wandb", f"mode = {mode}")
    elif mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_mode(offline) == expected


def test_online_without_an_account_is_refused(home, monkeypatch):
    netrc(home, "machine api.wandb.ai")
    monkeypatch.setenv("WANDB_BASE_URL", CORP)
    monkeypatch.setenv("WANDB_MODE", "online")
    words = rf"WANDB_MODE is online\), but there is no account for {CORP}: .*wandb login --host {CORP}"
    with pytest.raises(ConfigError, match=words):
        QuietWandbLogger()
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(ConfigError, match="offline is false"):
        QuietWandbLogger(offline=False)
    assert not (home.parent / "work" / "runs").exists()


@pytest.mark.parametrize(("value", "expected"), [("true", "disabled"), ("1", "disabled"), ("false", "offline")])
def test_wandb_disabled(monkeypatch, value, expected):
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert wandb_mode(None) == expected
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode(None) == "offline"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WANDB_MODE", "of-line", "mode: .*'online', 'offline'"),
        ("WANDB_BASE_URL", "ml.corp.example", "base_url: "),
        ("WANDB_BASE_URL", "https://wandb.ai", "did you mean https://api"),
        ("WANDB_API_KEY", "secret-key", "API key"),
    ],
)
def test_a_switch_that_wandb_does_not_know(monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words) as refused:
        wandb_mode(None)
    assert "\n" not in str(refused.value)
    assert "secret-key" not in str(refused.value)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_disabled_writes_nothing(home, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    before = set(os.listdir(tempfile.gettempdir()))
    logger = QuietWandbLogger(save_dir="runs")
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_hyperparams({"b": 2})
    logger.experiment.finish()
    assert list((home.parent / "work").iterdir()) == []
    assert list(home.iterdir()) == []
    assert not {name for name in os.listdir(tempfile.gettempdir()) if "wandb" in name} - before
    assert logger.save_dir == "runs"
    assert wandb_logger(SimpleNamespace(is_global_zero=True, loggers=[logger])) is None
    assert "anonymous" not in "".join(capsys.readouterr())


def test_a_folder_that_cannot_be_written(home):
    (home.parent / "work" / "runs").write_text("")
    with pytest.raises(OutputError, match=r"runs/wandb cannot be written"):
        QuietWandbLogger(offline=True)
    (home.parent / "work" / "other").mkdir()
    (home.parent / "work" / "other" / "wandb").write_text("")
    with pytest.raises(OutputError, match=r"other/wandb cannot be written"):
        QuietWandbLogger(save_dir="other", offline=True)


def test_a_run_that_cannot_begin(monkeypatch):
    def init(**options):
        raise wandb.errors.CommError("Run initialization has timed out\nafter 90 sec")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(ConfigError, match=r"has timed out after 90 sec\); WANDB_MODE=offline"):
        QuietWandbLogger(offline=True).experiment  # noqa: B018  # it is begun when it is asked for
