"""The file that a child reads, and the command it is sent, from rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from sqlalchemy import update

from db.session import transaction
from db.tables import Checkpoint, DatasetTrajectory
from rl.errors import DiskFull, InvalidInput, NoTrainingData, OffPolicyRefused
from rl.protocol import DatasetRow, TrainCommand
from rl.records import Call
from tasks import frozen
from tasks.frozen import Frozen, Start, command_for, start_from, write
from tests.conftest_database import add_line, add_version
from tests.tasks.conftest import trajectory

LORA = {"lora": {"rank": 4}}


def rows(count: int = 2) -> Frozen:
    names = [f"t{number}" for number in range(count)]
    kept = [DatasetTrajectory(trajectory_id=name, group="w s", score=number / 3) for number, name in enumerate(names)]
    spoken: dict[str, list[Call]] = {name: list(trajectory(number).calls) for number, name in enumerate(names)}
    return Frozen(kept, spoken)


def test_equal_rows_are_equal_bytes_with_their_hash(tmp_path: Path) -> None:
    path, sha256 = write(tmp_path / "new" / "folder", rows())
    assert path == tmp_path / "new" / "folder" / "dataset.jsonl"
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write(tmp_path, rows())[1] == sha256
    assert write(tmp_path, rows(1))[1] != sha256
    read = [DatasetRow.model_validate_json(line) for line in path.read_bytes().splitlines()]
    assert [(one.trajectory_id, one.group, one.score) for one in read] == [("t0", "w s", 0.0), ("t1", "w s", 1 / 3)]
    assert [Call.model_validate(call) for call in read[1].calls] == list(trajectory(1).calls)


def test_a_row_holds_only_what_is_said_of_it(tmp_path: Path) -> None:
    """So that its bytes, and the hash that a manifest keeps of them, outlive fields that are added later."""
    path, _ = write(tmp_path, rows(1))
    said = json.loads(path.read_text())
    assert set(said) == {"trajectory_id", "group", "score", "calls"}
    assert set(said["calls"][0]) == {"call_id", "turn", "model", "messages", "response"}


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / frozen.DATASET).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"dataset\.jsonl: no room left on this device"):
        write(tmp_path, rows())
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        write(tmp_path / "file", rows())


def test_the_command_names_all_that_the_child_reads(tmp_path: Path) -> None:
    start, dataset = Start("/base", "/adapter", "v"), tmp_path / "dataset.jsonl"
    given = {"objective": "sft", "steps": 3}
    assert command_for(7, 2, start, dataset, given, "/state", 600.0) == TrainCommand(
        job=7,
        fence=2,
        dataset=str(dataset),
        out=str(tmp_path),
        base="/base",
        parent="/adapter",
        config=given,
        resume="/state",
        save_seconds=600.0,
    )
    again = command_for(7, 2, start, dataset, given)
    assert (again.resume, again.save_seconds) == (None, 0.0)


def test_a_training_starts_where_its_parent_ended(fresh: str) -> None:
    with transaction() as session:
        name = add_version(session, add_line(session)).name
        uri = f"/checkpoints/{name}"
        assert start_from(session, "hub/base", None, LORA) == Start("hub/base", None, None)
        assert start_from(session, "hub/base", name, LORA) == Start("/base", uri, name)
        session.execute(update(Checkpoint).values(kind="full"))
        session.expire_all()
        assert start_from(session, "hub/base", name, LORA) == Start(uri, None, name)
        assert start_from(session, "hub/base", name, {"lora": None}) == Start(uri, uri, name), "its moments go on"
        with pytest.raises(InvalidInput, match="no such version"):
            start_from(session, "hub/base", "another", LORA)


def spoken_by(*models: str | None, tokens: list[int] | None = None) -> list[Call]:
    """One call of each model, with tokens unless the model is None."""
    ids = [5] if tokens is None else tokens
    return [
        trajectory(0)
        .calls[0]
        .model_copy(
            update={"call_id": f"c{turn}", "model": model or "gpt", "turn": turn}
            | ({"prompt_token_ids": [1], "token_ids": ids, "logprobs": [-0.5] * len(ids)} if model else {})
        )
        for turn, model in enumerate(models)
    ]


def test_a_trajectory_is_as_old_as_its_oldest_call(fresh: str) -> None:
    with transaction() as session:
        line = add_line(session)
        first, second, third, parent = (add_version(session, line).name for _ in range(4))
        newer = add_version(session, line).name
        spoken = {"now": [parent], "mixed": [parent, second, third], "old": [first], "later": [newer]}
        kept = Frozen([], {name: spoken_by(*models) for name, models in spoken.items()})
        assert frozen.aged(session, line.id, kept, parent).ages == {"mixed": 2, "old": 3, "later": 1}


def test_an_age_is_written_with_its_row(tmp_path: Path) -> None:
    kept = rows()
    path, _ = write(tmp_path, Frozen(kept.rows, kept.spoken, {"t1": 3}))
    read = [DatasetRow.model_validate_json(line) for line in path.read_bytes().splitlines()]
    assert [one.staleness for one in read] == [0, 3]


@pytest.mark.parametrize(
    ("models", "why"),
    [(["elsewhere"], "spoken by 'elsewhere', and"), ([None], "spoken by 'gpt' without log-probabilities")],
)
def test_calls_of_other_models_are_not_on_policy(fresh: str, models: list[str | None], why: str) -> None:
    with transaction() as session:
        line = add_line(session)
        parent = add_version(session, line).name
        kept = Frozen([], {"good": spoken_by(parent), "bad": spoken_by(*models)})
        with pytest.raises(OffPolicyRefused, match=f"call c0 of trajectory bad was {why}.*sft, weighted_sft, dpo"):
            frozen.aged(session, line.id, kept, parent)
        with pytest.raises(OffPolicyRefused, match="training goes on from None"):
            frozen.aged(session, line.id, Frozen([], {"good": spoken_by(parent)}), None)


def test_a_call_that_says_nothing_is_nobodys(fresh: str) -> None:
    with transaction() as session:
        line = add_line(session)
        parent = add_version(session, line).name
        kept = Frozen([], {"a": [*spoken_by(parent), *spoken_by("gpt", tokens=[])]})
        assert frozen.aged(session, line.id, kept, parent).ages == {}


def test_tokens_of_another_model_are_not_taken_for_ours(fresh: str) -> None:
    with transaction() as session:
        line = add_line(session)
        ours = add_version(session, line).name
        told = frozen.in_text(session, line.id, Frozen([], {"a": spoken_by(ours, "llama")})).spoken["a"]
    assert [call.has_tokens for call in told] == [True, False]
    assert [call.response for call in told] == [call.response for call in spoken_by(ours, "llama")]


def test_curated_rows_are_the_usable_ones_of_their_source(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    good = [trajectory(number) for number in range(2)]
    source.write_text(good[0].model_dump_json() + "\nnot a row\n" + good[1].model_dump_json() + "\n")
    path, sha256 = frozen.curate(tmp_path / "job", f"jsonl://{source}")
    assert path == tmp_path / "job" / "curated.jsonl"
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    read = [DatasetRow.model_validate_json(line) for line in path.read_bytes().splitlines()]
    assert [(one.trajectory_id, one.group, one.score) for one in read] == [
        (one.trajectory_id, one.scenario_id, one.reward) for one in good
    ]
    source.write_text("not a row\n")
    with pytest.raises(NoTrainingData, match=r"no usable row in jsonl://.*config\.ptx\.source"):
        frozen.curate(tmp_path / "job", f"jsonl://{source}")
