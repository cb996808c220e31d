"""A training that goes back before it began leaves no copy of its dataset behind, however often it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl.errors import Later, RlfleetError, StoreLacks
from tasks import carry, stored, supervise, training
from tasks.carry import Lease
from tests.tasks.rows import SFT, add_line, add_scored, asked, claimed, job, rows
from worker.settings import settings

pytestmark = pytest.mark.usefixtures("fresh")
HOUR = "2025-01-15T10:00"


@pytest.mark.parametrize(
    ("where", "error"), [("store", StoreLacks("not yet")), ("service", Later("another goes on with it"))]
)
def test_an_attempt_that_waits_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: RlfleetError
) -> None:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path))
    settings.cache_clear()
    line, seen = add_line(), list[Path]()
    add_scored(line, HOUR)
    job_id = asked(line, kind="train", inputs={"windows": [HOUR]}, config=SFT.model_dump(mode="json"), queue="gpu")

    def waits(_: object, command: Any, *__: object) -> Any:
        seen.extend(tmp_path.rglob("*.jsonl"))
        if where == "service":
            (Path(command.out) / "art.log").write_text("it is busy\n")
        raise error

    monkeypatch.setattr(training, "_child", lambda lease: None)
    if where == "store":
        monkeypatch.setattr(stored, "at_hand", waits)
    else:
        monkeypatch.setattr(supervise, "supervise", waits)
    for _ in range(3):
        rows("update rlfleet.jobs set run_at = now() where id = :id returning id", id=job_id)
        claim = claimed(job_id)
        assert carry._attempt(claim, training.train_on, Lease(claim, 60)) is None
        assert (job(job_id).state, job(job_id).attempt) == ("queued", 0)
    assert [path.name for path in seen] == ([] if where == "store" else ["dataset.jsonl"] * 3)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith("fence-")] == []
