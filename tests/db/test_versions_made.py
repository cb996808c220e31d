from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from db import datasets, dispatch, lines, versions, windows
from db.session import transaction
from db.versions import NewCheckpoint
from rl.errors import InvalidInput
from rl.windows import parse
from tests.conftest_database import add_line, add_version

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_version_says_what_it_was_made_of() -> None:
    with transaction() as session:
        line = add_line(session)
        parent = add_version(session, line)
        config = {"objective": "sft", "token_budget": 128}
        job = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": []}, config, "gpu"))
        window = windows.ensure(session, line.id, parse("2025-01-15T10:00"), state="scored")
        dataset = datasets.freeze(session, line.id, job, [window], [], {})
        version = versions.add(
            session,
            line=line,
            prefix="babylon-agent",
            job_id=job,
            fence=2,
            checkpoints=[NewCheckpoint(1, "adapter", "/c/1", "/base", "7" * 64, {})],
            parent_id=parent.id,
            base_model="/base",
            manifest={},
        )
        adjust = json.dumps({"token_budget": 64, "quantization": "4bit"})
        session.execute(
            text("update rlfleet.jobs set adjust = cast(:a as jsonb) where id = :id"), {"a": adjust, "id": job}
        )
        session.expire_all()
        made = versions.made(session, version.name)
        assert (made.version.id, made.checkpoint.uri, made.parent) == (version.id, "/c/1", parent.name)
        assert made.dataset is dataset
        assert made.config == {"objective": "sft", "token_budget": 64, "quantization": "4bit"}
        assert made.adjust == {"token_budget": 64, "quantization": "4bit"}
        first = versions.made(session, parent.name)
        assert (first.parent, first.dataset, first.config, first.adjust) == (None, None, {}, {})


def test_a_folder_is_known_by_the_hash_of_its_checkpoint() -> None:
    with transaction() as session:
        version = add_version(session, add_line(session))
        assert versions.sha256_of(session, f"/checkpoints/{version.name}") == "0" * 64
        assert versions.sha256_of(session, "/checkpoints") is None


def test_a_name_that_no_version_has_leads_to_near_ones() -> None:
    with transaction() as session:
        with pytest.raises(InvalidInput, match="no such version; the newest are: none yet"):
            versions.named(session, "babylon-agent-v1.0.0")
        line, other = add_line(session), add_line(session, "support")
        for _ in range(2):
            add_version(session, line)
        add_version(session, other, prefix="support")
        with pytest.raises(InvalidInput, match=r"near ones are: babylon-agent-v1\.0\.1, babylon-agent-v1\.0\.0$"):
            versions.named(session, "babylon-agnt-v1.0.1")
        with pytest.raises(InvalidInput, match=r"near ones are: support-v1\.0\.0$"):
            versions.made(session, "suport-v1.0.0")
        with pytest.raises(InvalidInput, match=r"the newest are: support-v1\.0\.0, babylon-agent-v1\.0\.1, "):
            versions.named(session, "?")
        assert lines.named(session, "support").id == other.id
