"""What the service does not take is noticed, also where the client goes on as if it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import wandb_service
from backends.sinks import Copied, Decided
from backends.wandb_sink import WandbSink
from tests.backends.wandb_runs import (
    RUN,
    a_run,
    checkpoint,
    children_end,
    copied,
    expected,
    service,
    steps_of,
    this_place_has_a_name,
)
from tests.wandb_stand_in import KEY, StandIn

__all__ = ["checkpoint", "children_end", "service", "this_place_has_a_name"]

SUMMARY = {"copy": "0123"}
ORDER = {"project": "p", "entity": "acme", "key": RUN, "steps": [], "summary": SUMMARY, "models": []}


@pytest.mark.slow
def test_a_model_that_is_refused_has_not_arrived_and_does_later(
    tmp_path: Path, checkpoint: Path, service: StandIn
) -> None:
    service.refused = {"CreateArtifact": "permission denied"}
    sink = WandbSink(tmp_path / "wandb")
    error = copied(sink, a_run(3, checkpoint)).error or ""
    assert error.startswith("it was not sent whole (sender: failed to log artifact: ")
    assert "permission denied" in error
    service.refused = {}
    assert copied(sink, a_run(3, checkpoint)) == Copied({"job": 7, "step": 3})
    assert [one["state"] for one in service.artifacts.values()] == ["COMMITTED"]
    assert steps_of(service.runs[RUN]) == expected(3)


@pytest.mark.slow
def test_results_that_are_refused_have_not_arrived_and_do_later(tmp_path: Path, service: StandIn) -> None:
    sink = WandbSink(tmp_path / "wandb")
    assert copied(sink, a_run(3, decisions=())) == Copied({"job": 7, "step": 3})
    assert "released" not in service.runs[RUN].summary
    service.broken_stream = 403
    decided = a_run(3, decisions=(Decided(True, "paired-margin", "", 2000.0),))
    error = copied(sink, decided).error or ""
    assert error.startswith("it was not sent whole (filestream: fatal error: ")
    assert "403" in error
    service.broken_stream = None
    assert copied(sink, decided) == Copied({"job": 7, "step": 3})
    assert service.runs[RUN].summary["released"] is True
    assert steps_of(service.runs[RUN]) == expected(3)


@pytest.mark.slow
def test_a_model_whose_files_are_gone_has_not_arrived(tmp_path: Path, checkpoint: Path, service: StandIn) -> None:
    run = a_run(3, checkpoint)
    for path in checkpoint.iterdir():
        path.unlink()
    sink = WandbSink(tmp_path / "wandb")
    assert copied(sink, run).error == "it was not recorded (the files of v1.0.1 are no more on this host)"


@pytest.mark.parametrize(
    ("state", "sha256", "is_there"),
    [("COMMITTED", "ab", True), ("PENDING", "ab", False), ("COMMITTED", "cd", False), (None, "", False)],
)
def test_the_service_is_asked_for_each_model(
    service: StandIn, monkeypatch: pytest.MonkeyPatch, state: str | None, sha256: str, is_there: bool
) -> None:
    monkeypatch.setattr(wandb_service, "CONFIRM_SECONDS", 0.0)
    monkeypatch.setattr(service, "answer_runresumestatus", lambda _: {"model": {"bucket": _bucket(0, "0123")}})
    if state:
        asked = {"artifactCollectionName": "v1.0.1", "metadata": f'{{"sha256": "{sha256}"}}'}
        service.artifacts["digest"] = {"state": state, "asked": asked}
    order = ORDER | {"models": [{"name": "v1.0.1", "sha256": "ab"}]}
    if is_there:
        wandb_service.confirm(service.url, order)
    else:
        with pytest.raises(wandb_service.NotCopied) as raised:
            wandb_service.confirm(service.url, order)
        assert str(raised.value) == f"{service.url} does not have the model v1.0.1 after all was sent"


@pytest.mark.parametrize(
    ("count", "copy", "words"),
    [(1, "0123", "has 1 of 2 steps"), (2, "an older one", "does not have the newest summary")],
)
def test_the_service_is_asked_for_the_lines_and_the_summary(
    service: StandIn, monkeypatch: pytest.MonkeyPatch, count: int, copy: str, words: str
) -> None:
    monkeypatch.setattr(wandb_service, "CONFIRM_SECONDS", 0.0)
    monkeypatch.setattr(service, "answer_runresumestatus", lambda _: {"model": {"bucket": _bucket(count, copy)}})
    with pytest.raises(wandb_service.NotCopied) as raised:
        wandb_service.confirm(service.url, ORDER | {"steps": [{}, {}]})
    assert str(raised.value) == f"{service.url} {words} after all was sent"


def _bucket(count: int, copy: str) -> dict[str, object]:
    return {"historyLineCount": count, "summaryMetrics": f'{{"copy": "{copy}"}}'}


def test_the_clients_own_words_are_told_without_the_signatures_of_addresses(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "debug-sync.1.log").write_text(
        '{"level":"ERROR","msg":"featurechecker: response serverInfo nil"}\nno json\n[]\n'
        f'{{"level":"ERROR","msg":"sender: failed to log artifact: 403 https://b.example/f?Signature={KEY} no"}}\n'
    )
    assert wandb_service.refusal(tmp_path) == "sender: failed to log artifact: 403 https://b.example/f no"
    (tmp_path / "logs" / "debug-sync.1.log").unlink()
    assert wandb_service.refusal(tmp_path) == ""
