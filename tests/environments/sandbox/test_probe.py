from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from environments import sandbox, settings
from environments.sandbox import commands, interpreter, probe
from environments.sandbox.commands import Site
from environments.sandbox.records import Level, Limits
from environments.sandbox.running import run_at
from rl.errors import InvalidSettings, SandboxUnavailable

ROOT = Path(__file__).parents[3]


@pytest.fixture
def minimum(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    settings.settings.cache_clear()
    yield monkeypatch
    settings.settings.cache_clear()


def only(*levels: Level) -> dict[Level, Site | str]:
    made = Site(Level.RLIMITS, interpreter.Interpreter("/p", "/l", "/s", "", ()))
    return {level: replace(made, level=level) if level in levels else "it is not here" for level in Level}


@pytest.mark.parametrize(
    ("least", "here", "got"),
    [
        ("bubblewrap", tuple(Level), "bubblewrap"),
        ("rlimits", tuple(Level), "bubblewrap"),
        ("", (Level.NAMESPACES, Level.RLIMITS), "namespaces"),
        ("rlimits", (Level.RLIMITS,), "rlimits"),
        ("bubblewrap", (Level.NAMESPACES, Level.RLIMITS), None),
        ("", (Level.RLIMITS,), None),
        ("rlimits", (), None),
    ],
)
def test_the_strongest_level_that_is_here_or_none(
    minimum: pytest.MonkeyPatch, least: str, here: tuple[Level, ...], got: str | None
) -> None:
    minimum.setenv("RLFLEET_SANDBOX", least)
    minimum.setattr(probe, "at", only(*here).__getitem__)
    if got is not None:
        assert sandbox.level() == got
        return
    with pytest.raises(SandboxUnavailable, match=r"RLFLEET_SANDBOX = .*bubblewrap: it is not here.*Install bubblewrap"):
        sandbox.run("print(1)")


def test_a_level_that_nobody_knows_is_refused(minimum: pytest.MonkeyPatch) -> None:
    minimum.setenv("RLFLEET_SANDBOX", "docker")
    with pytest.raises(InvalidSettings, match="RLFLEET_SANDBOX = 'docker'"):
        sandbox.level()


def test_the_setting_knows_every_level() -> None:
    choices = settings.EnvironmentSettings.model_json_schema()["properties"]["RLFLEET_SANDBOX"]["enum"]
    assert choices == [level.value for level in Level]


def test_levels_are_ordered() -> None:
    weak_to_strong = list(reversed(Level))
    for number, level in enumerate(weak_to_strong):
        assert [level.satisfies(other) for other in weak_to_strong] == [number >= n for n in range(len(Level))]


def test_a_sandbox_that_does_not_keep_a_promise_is_not_taken(held: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of bubblewrap and unshare are believed as little as their presence: here they share the network."""
    kept = Site.words

    def leaky(self: Site, limits: Limits, filter_file: int | None) -> list[str]:
        words = kept(self, limits, filter_file)
        if self.level is Level.BUBBLEWRAP:
            return [*words[:2], "--share-net", *words[2:]]
        return [word for word in words if word != "--net"]

    monkeypatch.setattr(Site, "words", leaky)
    probe.at.cache_clear()
    found = probe.at(held.level)
    probe.at.cache_clear()
    assert isinstance(found, str)
    assert "these do not hold: {'host_sockets': True}" in found


def test_a_program_that_does_not_start_says_why(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Site, "words", lambda *_: ["sh", "-c", "echo no such luck >&2"])
    with pytest.raises(SandboxUnavailable, match="the sandbox does not start: no such luck"):
        run_at(site, "print(1)")
    monkeypatch.setattr(Site, "words", lambda *_: ["no-such-program"])
    with pytest.raises(SandboxUnavailable, match=r"the sandbox does not start: .*no-such-program"):
        run_at(site, "print(1)")


def test_limits_alone_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    probe.at.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert isinstance(probe.at(Level.RLIMITS), Site)
    assert "without a sandbox" in caplog.text


def test_a_user_of_its_own_for_each_launch_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(commands, "_mapped", lambda first, _: first == commands.FIRST_UID)
    drawn = {commands.uid_of_launch() for _ in range(50)}
    assert len(drawn) == 50
    assert all(commands.FIRST_UID <= (uid or 0) < 2**31 for uid in drawn)
    monkeypatch.setattr(commands, "_mapped", lambda first, _: first == 65534)
    assert commands.uid_of_launch() == 65534
    monkeypatch.setattr(commands, "_mapped", lambda *_: False)
    assert commands.uid_of_launch() is None
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert commands.uid_of_launch() is None


def test_the_interpreter_inside_is_told_with_its_library() -> None:
    found = interpreter.candidates()
    assert found
    for one in found:
        assert Path(one.path).is_file()
        assert (Path(one.stdlib) / "json").is_dir()
        assert not any("site-packages" in mount.target for mount in one.mounts(1) if mount.kind == "bind")


def test_importing_the_sandbox_starts_nothing() -> None:
    code = "import json, sys, environments.sandbox; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT).stdout)
    assert {"ctypes", "torch", "environments.sandbox.launcher"} & set(modules) == set()
