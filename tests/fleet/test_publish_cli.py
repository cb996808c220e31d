"""``rlfleet publish`` in a process of its own, to a stand-in for the Hub, over real HTTP."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import snapshot_download
from sqlalchemy import select, text, update

from db import audit, hub_lock, versions
from db.session import transaction
from db.tables import Checkpoint, Version
from fleet.publish import digest
from tests.conftest_database import *  # noqa: F403
from tests.fleet.publishing import adapter, published, ready, run, start
from tests.hub_stand_in import TOKEN, StandIn, hub

REPO = "acme/agent"
FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
# The client of the Hub sends files under a name of httpx that is to go.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def there() -> Iterator[StandIn]:
    with hub() as found:
        yield found


@pytest.fixture
def version(database: str, tmp_path: Path) -> str:
    return ready(tmp_path)


def hub_lock_holder(repository: str) -> str | None:
    with transaction() as session:
        return hub_lock.holder(session, repository)


def entries() -> list[tuple[str, str, dict[str, Any]]]:
    with transaction() as session:
        return [(one.action, one.outcome, one.detail) for one in reversed(audit.listing(session))]


def card_of(there: StandIn) -> tuple[dict[str, Any], str]:
    _, head, body = there.files(REPO)["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head), body


def test_a_version_comes_back_from_the_hub(version: str, there: StandIn, tmp_path: Path) -> None:
    there.put_there("maker/base", {"README.md": b"---\nlicense: apache-2.0\n---\n"})
    found = published(there, version, "--hub", REPO, "--private")
    revision = there.repositories[REPO].commits[-1][0]
    assert {key: found[key] for key in ("schema", "version", "repository", "revision", "verified")} == {
        "schema": 1,
        "version": version,
        "repository": REPO,
        "revision": revision,
        "verified": True,
    }
    assert {one["path"]: one["state"] for one in found["files"]} == dict.fromkeys(FILES, "uploaded")
    assert there.repositories[REPO].private
    folder = Path(
        snapshot_download(REPO, endpoint=there.url, token=TOKEN, revision=revision, cache_dir=tmp_path / "cache")
    )
    weights = (tmp_path / "checkpoint" / "adapter_model.safetensors").read_bytes()
    assert (folder / "adapter_model.safetensors").read_bytes() == weights
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config == {"r": 4, "base_model_name_or_path": "maker/base"}
    assert not any(str(tmp_path).encode() in content for content in there.files(REPO).values())
    head, body = card_of(there)
    assert (head["base_model"], head["license"], head["tags"]) == ("maker/base", "apache-2.0", ["rlfleet"])
    assert "| environment | all | 83/100 | 83.0% |" in body
    assert "1 window: `2025-01-15T10:00`" in body
    assert "released by a test" in body
    again = published(there, version, "--hub", REPO)
    assert {one["path"]: one["state"] for one in again["files"]} == dict.fromkeys(FILES, "there")
    assert again["revision"] == revision
    told = [(action, outcome, detail.get("revision")) for action, outcome, detail in entries()]
    assert told == [("publish", "done", None), ("publish", "done", revision)] * 2
    assert not any(TOKEN in one for one in there.targets)


def test_it_says_when_all_is_there(version: str, there: StandIn) -> None:
    first = run(there, "v1.0.0", "--hub", REPO)
    assert first[1].endswith(": 3 of 3 files uploaded, each checked by its hash\n")
    assert "uploading adapter_model.safetensors" in first[2]
    assert run(there, "v1.0.0", "--hub", REPO)[1].endswith(": already the same, each checked by its hash\n")


def test_who_interrupts_it_leaves_a_row(version: str, there: StandIn) -> None:
    there.faults["put"] = ["hold"]
    process = start(there, version, "--hub", REPO)
    assert there.reached.wait(120), process.communicate()
    process.send_signal(signal.SIGINT)
    process.communicate()
    there.released.set()
    assert [(outcome, detail.get("error")) for _, outcome, detail in entries()] == [
        ("done", None),
        ("failed", "KeyboardInterrupt"),
    ]


def test_a_hub_that_fails_once_at_the_licence_is_asked_again(version: str, there: StandIn) -> None:
    named = b"---\nlicense: other\nlicense_name: maker\nlicense_link: LICENSE\n---\n"
    there.put_there("maker/base", {"README.md": named})
    there.faults["info"] = ["status:500"]
    code, _, err = run(there, version, "--hub", REPO)
    assert (code, there.asked[:2]) == (0, ["info", "info"]), err
    assert "maker/base: the Hub" in err
    head, _ = card_of(there)
    assert (head["license"], head["license_name"]) == ("other", "maker")
    assert "license_link" not in head, "it names a file that is not published"


@pytest.mark.slow
def test_a_second_one_is_told_who_publishes_and_does_nothing(version: str, there: StandIn) -> None:
    there.faults["put"] = ["hold"]
    first = start(there, version, "--hub", REPO, USER="ann")
    try:
        assert there.reached.wait(120), first.communicate()
        asked = len(there.asked)
        code, out, err = run(there, version, "--hub", REPO.upper(), "--json")
        assert (code, out, len(there.asked)) == (3, "", asked)
        assert re.search(rf"^rlfleet: ACME/AGENT: another publication goes there: {version} by ann@.+ \(since ", err)
        assert len(entries()) == 1, "the first one's"
        assert hub_lock_holder("acme/other") is None
    finally:
        there.released.set()
        first.communicate(timeout=240)
    assert hub_lock_holder(REPO) is None
    assert published(there, version, "--hub", REPO)["verified"]


@pytest.mark.slow
def test_who_lost_the_connection_to_the_database_commits_nothing(version: str, there: StandIn) -> None:
    there.faults["put"] = ["hold"]
    process = start(there, version, "--hub", REPO)
    assert there.reached.wait(120), process.communicate()
    with transaction() as session:
        session.execute(
            text(
                "select pg_terminate_backend(pid, 30000) from pg_stat_activity "
                "where application_name like :name and datname = current_database()"
            ),
            {"name": f"{version} by %"},
        )
    assert hub_lock_holder(REPO) is None
    there.released.set()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "rlfleet: acme/agent: the connection to the database is lost, and another publication may begin" in err
    assert "commit" not in there.asked
    published(there, version, "--hub", REPO)


@pytest.mark.parametrize("head", [b"license: [mit", b"- a", b"license: \xff"])
def test_a_base_whose_card_is_not_readable_says_no_licence(
    head: bytes, version: str, there: StandIn, tmp_path: Path
) -> None:
    base = tmp_path / "hub/models--maker--base/snapshots/0a"
    base.mkdir(parents=True)
    (base / "README.md").write_bytes(b"---\n" + head + b"\n---\n")
    published(there, version, "--hub", REPO)
    assert card_of(there)[0]["license"] == "other"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["create:held", "put:hold", "put:held", "commit:hold", "commit:held", "paths:hold"])
def test_what_was_killed_is_taken_up(stage: str, version: str, there: StandIn) -> None:
    name, fault = stage.split(":")
    there.faults[name] = [fault]
    process = start(there, version, "--hub", REPO)
    assert there.reached.wait(120), process.communicate()
    process.kill()
    process.communicate()
    there.released.set()
    assert [detail["begun"] for _, _, detail in entries()] == [True]
    found = published(there, version, "--hub", REPO)
    was_committed = stage in ("commit:held", "paths:hold")
    assert {one["state"] for one in found["files"]} == {"there" if was_committed else "uploaded"}
    assert set(there.files(REPO)) == {".gitattributes", *FILES}
    assert len(there.repositories[REPO].commits) == 2
    assert there.asked.count("put") == (2 if stage == "put:hold" else 1)


def test_bytes_that_differ_afterwards_end_with_1(version: str, there: StandIn) -> None:
    there.faults["commit"] = ["garble"]
    code, out, err = run(there, version, "--hub", REPO, "--json")
    assert (code, out) == (1, "")
    assert "acme/agent: adapter_model.safetensors is not what was sent" in err
    (_, first, begun), (action, outcome, detail) = entries()
    assert (first, begun["begun"], action, outcome) == ("done", True, "publish", "refused")
    assert "is not what was sent" in detail["error"]


@pytest.mark.parametrize(
    ("words", "variables", "code", "said"),
    [
        ((), {"HF_TOKEN": ""}, 2, "HF_TOKEN = '': set it to a token with write access"),
        ((), {"HF_TOKEN": "hf_wrong"}, 1, "the Hub refuses the token (401)"),
        (("--hub", "other/agent"), {}, 1, "the token may not write there (403)"),
        (("--hub", "agent"), {}, 2, "hub = 'agent': a repository of the Hub is ORG/NAME"),
        (
            (),
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            1,
            "did not answer (ConnectError); see that this machine reaches it (HF_ENDPOINT, proxies); then give the "
            "same command again, which goes on from here, or add --later: the fleet publishes it by itself",
        ),
        ((), {"HF_HUB_OFFLINE": "1"}, 1, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_cannot_be_is_said(
    words: tuple[str, ...], variables: dict[str, str], code: int, said: str, version: str, there: StandIn
) -> None:
    ended, out, err = run(there, version, *(words or ("--hub", REPO)), "--json", **variables)
    assert (ended, out) == (code, "")
    assert said in err
    assert "hf_wrong" not in err
    assert there.repositories == {}


def change(**values: Any) -> None:
    with transaction() as session:
        session.execute(update(Version).values(**values))


def test_only_what_passed_is_published(version: str, there: StandIn) -> None:
    change(state="rejected")
    code, _, err = run(there, version, "--hub", REPO)
    assert (code, there.asked) == (2, [])
    assert "it is rejected: only what passed, or was released, is published; --any publishes it all the same" in err
    published(there, version, "--hub", REPO, "--any")
    assert "It did not pass as a release of its line: it is rejected." in card_of(there)[1]


def test_a_checkpoint_that_is_gone_or_changed_is_not_published(version: str, there: StandIn, tmp_path: Path) -> None:
    config = tmp_path / "checkpoint" / "adapter_config.json"
    config.write_text(config.read_text() + " ")
    assert "put the old one back" in run(there, version, "--hub", REPO)[2]
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")
    code, _, err = run(there, version, "--hub", REPO)
    assert code == 2
    assert "its checkpoint is not on this machine" in err
    with transaction() as session:
        row = versions.named(session, version)[1]
        row.removed_at = session.scalar(select(Checkpoint.created_at))
    assert "retention removed its checkpoint" in run(there, version, "--hub", REPO)[2]
    assert there.asked == []


def test_an_adapter_on_a_base_without_a_repository_needs_its_name(version: str, there: StandIn) -> None:
    with transaction() as session:
        session.execute(update(Checkpoint).values(base_uri="/base"))
    code, _, err = run(there, version, "--hub", REPO)
    assert (code, there.asked) == (2, [])
    assert "its base is the folder /base: name the base's repository with --base, or publish it --merged" in err
    published(there, version, "--hub", REPO, "--base", "acme/base")
    assert card_of(there)[0]["base_model"] == "acme/base"
    assert card_of(there)[0]["license"] == "other"


def test_full_weights_are_published_as_they_are(version: str, there: StandIn, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "full", tmp_path / "nowhere")
    (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
    (folder / "adapter_config.json").rename(folder / "config.json")
    (folder / "tokenizer.json").write_text("{}")
    with transaction() as session:
        session.execute(update(Checkpoint).values(uri=str(folder), kind="full", sha256=digest(folder)))
    found = published(there, version, "--hub", REPO)
    weights = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {one["path"] for one in found["files"]} == {"README.md", *weights}
    assert {name: there.files(REPO)[name] for name in weights} == {n: (folder / n).read_bytes() for n in weights}
    head, body = card_of(there)
    assert (head["library_name"], head["base_model"]) == ("transformers", "maker/base")
    assert "Full weights, trained from `maker/base`: version" in body
