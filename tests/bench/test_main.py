"""``python -m bench``: the parts' reports together, and their exit statuses as one."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command

Started = list[list[str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, int]], Started]:
    """Parts that end with these statuses; all but those with status 2 write a report."""

    def fake(statuses: dict[str, int]) -> Started:
        said: Started = []

        def run(argv: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
            said.append(list(argv[1:]))
            status = statuses.get(argv[2], 0)
            if status != 2:
                Path(argv[4]).write_text(json.dumps({"from": argv[2]}))
            return subprocess.CompletedProcess(argv, status)

        monkeypatch.setattr(subprocess, "run", run)
        return said

    return fake


def test_all_parts_run_in_order(started: Callable[[dict[str, int]], Started], tmp_path: Path) -> None:
    said = started({})
    assert command.main(["--quick", "--json", str(tmp_path / "all.json")]) == 0
    assert [words[1] for words in said] == [f"bench.{name}" for name in command.PARTS]
    assert all(words[-1] == "--quick" for words in said)
    report = json.loads((tmp_path / "all.json").read_bytes())
    assert (report["schema"], report["quick"], report["passed"]) == (1, True, True)
    assert report["metrics"] == {"from": "bench.metrics"}
    assert report["engine"] == {"from": "bench.engine"}


def test_a_part_that_misses_its_bound_fails_the_whole(
    started: Callable[[dict[str, int]], Started], tmp_path: Path
) -> None:
    said = started({"bench.jobs": 1, "bench.loop": 2})
    assert command.main(["--parts", "loop,jobs,engine", "--json", str(tmp_path / "all.json")]) == 1
    assert [words[1] for words in said] == ["bench.loop", "bench.jobs", "bench.engine"]
    report = json.loads((tmp_path / "all.json").read_bytes())
    assert report["loop"] == {"error": "exit status 2, and no report"}
    assert report["jobs"] == {"from": "bench.jobs"}
    assert report["passed"] is False


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--parts", "jobs,speed"])
    assert "there is no speed; there are jobs, collect, train_ratio, engine, loop" in capsys.readouterr().err
