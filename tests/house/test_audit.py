"""``make audit`` says what is known of the pins, and never passes silence off as good news."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}]}
WORSE = {"name": "worse", "version": "3.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "REPORT", tmp_path / "build" / "audit.json")
    return module


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([GOOD], 0, "1 of 1 packages were asked about, 0 findings\n"),
        ([GOOD, BAD], 1, "bad 2.0: PYSEC-1, fixed in 2.1, 3.0\n2 of 2 packages were asked about, 1 findings\n"),
        ([WORSE, UNKNOWN], 1, "worse 3.0: PYSEC-2, no fix\n"),
        ([GOOD, UNKNOWN], 2, "nothing is known of unknown: the service did not answer for them\n"),
        ([UNKNOWN] * 7, 2, "0 of 7 packages were asked about, 0 findings\n"),
    ],
)
def test_what_was_not_asked_about_is_not_good(
    audit: ModuleType, found: list[dict[str, Any]], code: int, words: str
) -> None:
    said = audit.summary(json.dumps({"dependencies": found}))
    assert said[0] == code
    assert words in said[1]


def test_a_service_that_is_away_is_said(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert str(ROOT / "constraints.txt") in argv
        return subprocess.CompletedProcess(argv, 1, "", "one\nConnectionError: no route\n")

    monkeypatch.setattr(subprocess, "run", away)
    assert audit.main() == 2
    assert capsys.readouterr().err == "nothing was audited: ConnectionError: no route\n"


def test_a_service_that_never_answers_is_not_waited_for(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(argv, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main() == 2
    assert capsys.readouterr().err == "nothing was audited: no answer for all packages within 240 s\n"


def test_ci_goes_on_whatever_it_says_and_does_not_wait_for_ever(audit: ModuleType) -> None:
    (limit,) = re.findall(r"\ntimeout --kill-after=30 (\d+) make audit \|\|", (ROOT / ".ci" / "run").read_text())
    assert int(limit) > audit.SECONDS, "it says by itself that it gave up"
