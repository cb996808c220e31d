"""Over real HTTP, by the real client of the Hub, to a stand-in of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from backends import hub as module
from backends.hub import Hub, Published
from backends.hub_licence import licence_of
from backends.settings import hub_settings
from rl.errors import HubRefused, HubUnavailable, InvalidInput, InvalidSettings
from rl.model_card import Licence
from tests.hub_stand_in import TOKEN, StandIn, hub

# The client of the Hub sends files under a name of httpx that is to go.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
REPO = "acme/agent"
CARD = b"---\nlicense: other\ntags:\n- rlfleet\n---\n\n# agent\n"
FILES = {"README.md": CARD, "adapter_config.json": b'{"r": 4}\n', "adapter_model.safetensors": b"w" * 3_000_000}


def show(*_: object) -> None:
    """Nobody looks."""


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01, 0.01))
    # As it is where HF_ENDPOINT is set before the client is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_URL_HOSTS", frozenset({"127.0.0.1"}))
    with hub() as found:
        yield found


def publish(there: StandIn, files: dict[str, bytes] | None = None, token: str = TOKEN, repo: str = REPO) -> Published:
    client = Hub(there.url, token)
    client.open(repo, private=False, show=show)
    return client.put(repo, {**(files or FILES)}, "v1", show)


def states(found: Published) -> dict[str, str]:
    return {one.path: one.state for one in found.files}


def test_files_are_there_with_their_bytes(there: StandIn, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(FILES["adapter_model.safetensors"])
    client = Hub(there.url, TOKEN)
    client.open(REPO, private=True, show=show)
    found = client.put(REPO, {**FILES, "adapter_model.safetensors": weights}, "v1", show)
    assert there.repositories[REPO].private
    assert there.files(REPO) == {".gitattributes": b"", **FILES}
    assert states(found) == dict.fromkeys(FILES, "uploaded")
    assert found.revision == there.repositories[REPO].commits[-1][0]
    folder = snapshot_download(REPO, endpoint=there.url, token=TOKEN, revision=found.revision)
    assert {name: (Path(folder) / name).read_bytes() for name in FILES} == FILES


def test_a_second_time_changes_nothing(there: StandIn) -> None:
    first = publish(there)
    again = publish(there)
    assert again.revision == first.revision
    assert states(again) == dict.fromkeys(FILES, "there")
    assert there.asked.count("put") == there.asked.count("commit") == 1


def test_only_what_is_missing_is_sent_and_what_a_loader_would_take_goes(there: StandIn) -> None:
    publish(there)
    there.repositories[REPO].at(None)[1]["notes.txt"] = there.repositories[REPO].at(None)[1]["README.md"]
    full = {"README.md": CARD, "config.json": b"{}", "model.safetensors": b"m" * 10}
    found = publish(there, full)
    assert states(found) == {"README.md": "there", "config.json": "uploaded", "model.safetensors": "uploaded"}
    assert set(there.files(REPO)) == {".gitattributes", "notes.txt", *full}


@pytest.mark.parametrize("stage", ["create", "info", "preupload", "put", "commit", "paths", "tree"])
def test_a_hub_that_fails_once_is_asked_again(stage: str, there: StandIn) -> None:
    there.faults[stage] = ["status:500"]
    publish(there)
    assert there.files(REPO) == {".gitattributes": b"", **FILES}
    assert len(there.repositories[REPO].commits) == 2


@pytest.mark.parametrize("stage", ["create", "put", "commit", "paths"])
def test_an_answer_that_gets_lost_doubles_nothing(stage: str, there: StandIn) -> None:
    there.faults[stage] = ["lost"]
    found = publish(there)
    assert states(found) == dict.fromkeys(FILES, "uploaded")
    assert len(there.repositories[REPO].commits) == 2
    assert found.revision == there.repositories[REPO].commits[-1][0]


def test_a_commit_that_came_between_is_not_overwritten(there: StandIn) -> None:
    publish(there)
    there.faults["commit"] = ["status:412"]
    found = publish(there, {**FILES, "adapter_config.json": b'{"r": 8}\n'})
    assert states(found) == {**dict.fromkeys(FILES, "there"), "adapter_config.json": "uploaded"}


def test_other_bytes_than_were_sent_are_noticed(there: StandIn) -> None:
    there.faults["commit"] = ["garble"]
    with pytest.raises(HubRefused, match=r"acme/agent: adapter_model\.safetensors is not what was sent"):
        publish(there)


@pytest.mark.parametrize(
    ("repo", "token", "words"),
    [
        (REPO, "hf_wrong", r"the Hub refuses the token \(401\).*set HF_TOKEN"),
        ("other/agent", TOKEN, r"the token may not write there \(403\).*name a repository of yours"),
    ],
)
def test_who_may_not_write_is_told(repo: str, token: str, words: str, there: StandIn) -> None:
    with pytest.raises(HubRefused, match=words) as refused:
        publish(there, token=token, repo=repo)
    assert token not in str(refused.value)
    assert there.repositories == {}


def test_the_repository_of_another_is_not_written_to(there: StandIn) -> None:
    there.put_there("other/agent", {"README.md": CARD})
    before = there.files("other/agent")
    with pytest.raises(HubRefused, match=r"other/agent: the token may not write there \(403\)"):
        publish(there, repo="other/agent")
    assert there.files("other/agent") == before


def test_a_repository_with_something_else_in_it_is_left_alone(there: StandIn) -> None:
    there.put_there(REPO, {"README.md": b"# mine\n", "model.safetensors": b"x"})
    before = there.files(REPO)
    with pytest.raises(InvalidInput, match=r"hub = 'acme/agent': it holds README\.md and its card has no tag rlfleet"):
        publish(there)
    assert there.files(REPO) == before


def test_what_is_to_be_private_is_never_sent_to_a_public_place(there: StandIn) -> None:
    there.put_there(REPO, {})
    with pytest.raises(InvalidInput, match="it is there and public"):
        Hub(there.url, TOKEN).open(REPO, private=True, show=show)


def test_a_hub_that_stays_away_is_named(there: StandIn) -> None:
    nowhere = Hub("http://127.0.0.1:9", TOKEN)
    with pytest.raises(HubUnavailable, match=r"the Hub at http://127\.0\.0\.1:9 did not answer \(ConnectError\)"):
        nowhere.open(REPO, private=False, show=show)
    there.faults["create"] = ["status:503"] * 4
    with pytest.raises(HubUnavailable, match=r"failed \(503\)"):
        publish(there)


def test_a_hub_that_is_silent_is_not_asked_again(there: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    there.faults["create"] = ["hold"] * 4
    with pytest.raises(HubUnavailable, match=r"did not answer \(ReadTimeout\)"):
        publish(there)
    assert there.asked == ["create"]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1:80@evil.test/",
            "http://localhost:x@evil.test",
            "https://user:hunter2@hub.test",
            "https://",
        ),
        *("http://hub.test", "http://127.0.0.1.evil.test/", "ftp://127.0.0.1/", "hub.test", "http://[::1"),
    ],
)
def test_the_token_goes_nowhere_where_strangers_could_read_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", url)
    with pytest.raises(InvalidSettings, match=r"HF_ENDPOINT = .*: set a URL that begins with https://") as refused:
        hub_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://hub.test/mirror", "http://127.0.0.1:8080", "http://localhost", "http://LOCALHOST/"]
)
def test_the_hub_may_be_elsewhere(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", url)
    assert hub_settings().endpoint == url


def test_a_name_that_the_hub_does_not_take(there: StandIn) -> None:
    with pytest.raises(InvalidInput, match="hub = 'acme/a--b'"):
        publish(there, repo="acme/a--b")


def test_a_licence_is_that_of_the_bases_own_card(there: StandIn, tmp_path: Path) -> None:
    there.put_there("maker/base", {"README.md": b"---\nlicense: apache-2.0\n---\n"})
    named = b"---\nlicense: other\nlicense_name: maker\nlicense_link: LICENSE\n---\n"
    there.put_there("maker/own", {"README.md": named})
    there.put_there("maker/silent", {})
    client = Hub(there.url, TOKEN)
    assert licence_of(client, tmp_path, "maker/base", show) == Licence(licence="apache-2.0")
    assert licence_of(client, tmp_path, "maker/own", show) == Licence(licence="other", name="maker", link="LICENSE")
    assert licence_of(client, tmp_path, "maker/silent", show) is None
    assert licence_of(client, tmp_path, "maker/nothing", show) is None
    assert licence_of(client, tmp_path, None, show) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# a base\n")
    assert licence_of(client, tmp_path, "maker/base", show) == Licence(licence="mit")
