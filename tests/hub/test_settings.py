from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from resnest_zoo.errors import ConfigError
from resnest_zoo.hub.settings import Settings, read_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNEST_ZOO_SETTINGS", str(tmp_path / "my settings é.yaml"))
    return tmp_path / "my settings é.yaml"


def test_without_settings_there_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RESNEST_ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read_settings() == Settings(tmp_path / "resnest_zoo", (), False)


def test_the_file_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNEST_ZOO_CACHE")
    file.write_text("cache: /data/weights\nmirrors: [https://a/b, 'hf://me/weights']\noffline: true\n")
    assert read_settings() == Settings(Path("/data/weights"), ("https://a/b", "hf://me/weights"), True)


def test_the_file_lies_in_the_config_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "resnest_zoo").mkdir()
    (tmp_path / "resnest_zoo" / "settings.yaml").write_text("offline: true")
    assert read_settings().offline


def test_the_environment_goes_first(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("cache: /data/weights\nmirrors: [https://later]\noffline: true\n")
    monkeypatch.setenv("RESNEST_ZOO_CACHE", "/fast")
    monkeypatch.setenv("RESNEST_ZOO_MIRROR", " https://first , ,/folder")
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", "0")
    assert read_settings() == Settings(Path("/fast"), ("https://first", "/folder", "https://later"), False)


@pytest.mark.parametrize(
    ("own", "hub", "offline"),
    [
        ("1", "", True),
        ("", "1", True),
        ("0", "1", True),
        ("1", "0", True),
        ("0", "0", False),
        ("", "", False),
        ("no", "Off", False),
        ("Yes", "", True),
    ],
)
def test_either_switch_takes_us_offline(
    monkeypatch: pytest.MonkeyPatch, own: str, hub: str, offline: bool
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_OFFLINE", own)
    monkeypatch.setenv("HF_HUB_OFFLINE", hub)
    assert read_settings().offline is offline


def test_a_changed_file_is_read_again(file: Path) -> None:
    file.write_text("offline: true")
    assert read_settings().offline
    file.write_text("offline: false")
    assert not read_settings().offline


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cach: /x", "unknown key 'cach'; expected cache, mirrors, offline"),
        ("cache: 5", "cache: expected a str, got 5"),
        ("mirrors: https://a", "mirrors: expected a list"),
        ("mirrors: [5]", "mirrors: expected a list of addresses"),
        ("offline: 1", "offline: expected a bool, got 1"),
        ("offline: 'yes'", "offline: expected a bool"),
        ("- a", "expected the keys"),
        ("a: [", "cannot be read"),
        ("a: !!python/object/apply:os.system [x]", "cannot be read"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_it(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_settings()
    assert str(file) in str(caught.value)


def test_a_file_the_user_names_must_be_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"RESNEST_ZOO_SETTINGS: .*cannot be read"):
        read_settings()


@pytest.mark.skipif(os.name == "nt", reason="asks the password database")
def test_a_user_without_home_needs_only_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number without a name."""
    import pwd

    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert read_settings().cache.name == "cache"
    monkeypatch.delenv("RESNEST_ZOO_CACHE")
    with pytest.raises(ConfigError, match="RESNEST_ZOO_CACHE chooses a folder"):
        read_settings()


def test_reading_needs_no_yaml_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    read_settings()
