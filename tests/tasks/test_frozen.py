"""The file that a child reads, and the command it is sent, from rows."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import update

from db import calls, datasets, dispatch, lines, trajectories, versions, windows
from db.session import transaction
from db.tables import Checkpoint
from rl.errors import DiskFull, InvalidInput, NoTrainingData, OffPolicyRefused
from rl.held_out import is_held_out
from rl.protocol import DatasetRow, TrainCommand
from rl.records import Call
from rl.windows import parse
from tasks import frozen
from tasks.frozen import Frozen, Start, command_for, start_from, write
from tests.conftest_database import add_line, add_version, empty
from tests.tasks.conftest import HOUR, trajectory

LORA = {"lora": {"rank": 4}}


def filed(several: Mapping[str, Sequence[Call]], line: str = "main") -> int:
    """The dataset of a job: these trajectories with their calls, scored 0, 1/3, 2/3, ... Its id."""
    with transaction() as session:
        found = lines.named(session, line)
        spec = dispatch.Spec("train", found.id, {"n": secrets.token_hex(4)}, {}, "gpu")
        window = windows.ensure(session, found.id, parse(HOUR), state="scored")
        stored = [trajectory(0).model_copy(update={"trajectory_id": name, "calls": []}) for name in several]
        trajectories.insert_trajectories(session, found.id, window, "jsonl", stored)
        spoken = [
            calls.NewCall.of(
                call.model_copy(update={"call_id": f"{name}/{call.call_id}"}),
                trajectory_id=name,
                line=line,
                agent_id=None,
            )
            for name, said in several.items()
            for call in said
        ]
        calls.insert(session, spoken)
        scored = [trajectories.Scored(name, HOUR, "s", 0.0, number / 3) for number, name in enumerate(several)]
        return datasets.freeze(session, found.id, dispatch.request(session, spec), [window], scored, {}).id


def rows(count: int = 2) -> Frozen:
    """A dataset of foreign calls, one in each trajectory."""
    with transaction() as session:
        empty(session)
        add_line(session)
    return Frozen(filed({f"t{number}": trajectory(number).calls for number in range(count)}), {}, False, None)


def read(path: Path) -> list[DatasetRow]:
    return [DatasetRow.model_validate_json(line) for line in path.read_bytes().splitlines()]


def test_equal_rows_are_equal_bytes_with_their_hash(fresh: str, tmp_path: Path) -> None:
    path, sha256 = write(tmp_path / "new" / "folder", rows())
    assert path == tmp_path / "new" / "folder" / "dataset.jsonl"
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write(tmp_path, rows())[1] == sha256
    assert write(tmp_path, rows(1))[1] != sha256
    found = read(path)
    group = f"{HOUR} s"
    assert [(one.trajectory_id, one.group, one.score) for one in found] == [("t0", group, 0.0), ("t1", group, 1 / 3)]
    spoken = trajectory(1).calls[0].model_copy(update={"call_id": "t1/t1/0"})
    assert [Call.model_validate(call) for call in found[1].calls] == [spoken]


def test_the_bytes_of_a_row_are_settled(fresh: str, tmp_path: Path) -> None:
    """Manifests keep their hash, and a version is only trained again on the same."""
    path, sha256 = write(tmp_path, rows(1))
    assert path.read_bytes() == (
        b'{"trajectory_id":"t0","group":"2025-01-15T10:00 s","score":0.0,"calls":[{"call_id":"t0/t0/0","turn":0,'
        b'"model":"another-model","messages":[{"role":"user","content":"red ball ahead"}],'
        b'"response":{"role":"assistant","content":"forward"}}]}\n'
    )
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_row_holds_only_what_is_said_of_it(fresh: str, tmp_path: Path) -> None:
    """So that its bytes, and the hash that a manifest keeps of them, outlive fields that are added later."""
    path, _ = write(tmp_path, rows(1))
    said = json.loads(path.read_text())
    assert set(said) == {"trajectory_id", "group", "score", "calls"}
    assert set(said["calls"][0]) == {"call_id", "turn", "model", "messages", "response"}


def test_a_full_disk_is_named(fresh: str, tmp_path: Path) -> None:
    (tmp_path / frozen.DATASET).symlink_to("/dev/full")
    kept = rows()
    with pytest.raises(DiskFull, match=r"dataset\.jsonl: no room left on this device"):
        write(tmp_path, kept)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        write(tmp_path / "file", kept)


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
        assert start_from(session, "hub/base", name, LORA) == Start("/base", uri, name, 1)
        session.execute(update(Checkpoint).values(kind="full"))
        session.expire_all()
        assert start_from(session, "hub/base", name, LORA) == Start(uri, None, name, 1)
        assert start_from(session, "hub/base", name, {"lora": None}) == Start(uri, uri, name, 1), "its moments go on"
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


@pytest.fixture
def versions_of_a_line(fresh: str) -> tuple[dict[str, int], list[str]]:
    """Five versions by place, and their names."""
    with transaction() as session:
        line = add_line(session)
        names = [add_version(session, line).name for _ in range(5)]
        return versions.places(session, line.id), names


Line = tuple[dict[str, int], list[str]]


def test_a_trajectory_is_as_old_as_its_oldest_call(versions_of_a_line: Line, tmp_path: Path) -> None:
    own, (first, second, third, parent, newer) = versions_of_a_line
    spoken = {"later": [newer], "mixed": [parent, second, third], "now": [parent], "old": [first]}
    kept = filed({name: spoken_by(*models) for name, models in spoken.items()})
    path, _ = write(tmp_path, Frozen(kept, own, True, parent))
    assert {one.trajectory_id: one.staleness for one in read(path)} == {"now": 0, "mixed": 2, "old": 3, "later": 1}


@pytest.mark.parametrize(
    ("models", "why"),
    [(["elsewhere"], "spoken by 'elsewhere', and"), ([None], "spoken by 'gpt' without log-probabilities")],
)
def test_calls_of_other_models_are_not_on_policy(
    versions_of_a_line: Line, tmp_path: Path, models: list[str | None], why: str
) -> None:
    own, (*_, parent) = versions_of_a_line
    kept = filed({"a good one": spoken_by(parent), "bad": spoken_by(parent, *models), "worse": spoken_by("any")})
    with pytest.raises(OffPolicyRefused, match=f"call bad/c1 of trajectory bad was {why}.*sft, weighted_sft, dpo"):
        write(tmp_path, Frozen(kept, own, True, parent))
    with pytest.raises(OffPolicyRefused, match=r"call a good one/c0 of .* training goes on from None"):
        write(tmp_path, Frozen(kept, own, True, None))


def test_a_call_that_says_nothing_is_nobodys() -> None:
    spoken = [*spoken_by("v1"), *spoken_by("gpt", tokens=[])]
    assert frozen.age_of("a", spoken, {"v0": 0, "v1": 1}, "v1") == 0
    assert frozen.age_of("a", spoken_by("gpt", tokens=[]), {}, None) == 0


def test_tokens_of_another_model_are_not_taken_for_ours(versions_of_a_line: Line, tmp_path: Path) -> None:
    own, (ours, *_) = versions_of_a_line
    path, _ = write(tmp_path, Frozen(filed({"a": spoken_by(ours, "llama")}), own, False, ours))
    told = [Call.model_validate(call) for call in read(path)[0].calls]
    assert [call.has_tokens for call in told] == [True, False]
    assert [call.response for call in told] == [call.response for call in spoken_by(ours, "llama")]


def test_curated_rows_are_the_usable_ones_of_their_source(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    good = [trajectory(number) for number in range(2)]
    source.write_text(good[0].model_dump_json() + "\nnot a row\n" + good[1].model_dump_json() + "\n")
    path, sha256, left_out = frozen.curate(tmp_path / "job", f"jsonl://{source}", (), None)
    assert left_out == 0
    assert path == tmp_path / "job" / "curated.jsonl"
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(one.trajectory_id, one.group, one.score) for one in read(path)] == [
        (one.trajectory_id, one.scenario_id, one.reward) for one in good
    ]
    refused = good[1].model_copy(update={"consent": False})
    source.write_text(good[0].model_dump_json() + "\n" + refused.model_dump_json() + "\n")
    path, *_ = frozen.curate(tmp_path / "job", f"jsonl://{source}", (), {})
    assert [one.trajectory_id for one in read(path)] == [good[0].trajectory_id]
    source.write_text("not a row\n")
    with pytest.raises(NoTrainingData, match=r"no usable row in jsonl://.*config\.ptx\.source"):
        frozen.curate(tmp_path / "job", f"jsonl://{source}", (), None)


def test_no_curated_row_is_of_a_held_out_scenario(tmp_path: Path) -> None:
    source, names = tmp_path / "source.jsonl", [f"s{number}" for number in range(40)]
    several = [trajectory(place).model_copy(update={"scenario_id": name}) for place, name in enumerate(names)]
    source.write_text("".join(one.model_dump_json() + "\n" for one in several))
    path, _, left_out = frozen.curate(tmp_path, f"jsonl://{source}", (), {"share": 0.3, "salt": "x"})
    kept = [name for name in names if not is_held_out(name, 0.3, "x")]
    assert [one.group for one in read(path)] == kept
    assert left_out == 40 - len(kept) > 5
    out = {"share": 0.999_999, "salt": "x"}
    with pytest.raises(NoTrainingData, match=r"config\.ptx\.source names: all 40 are held out for evaluation"):
        frozen.curate(tmp_path, f"jsonl://{source}", (), out)
