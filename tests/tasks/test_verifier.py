"""The user's verifier, as a URL over real HTTP and as a function in a real child process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pytest

from rl.errors import ChildLost, InvalidSettings
from tasks import verifier
from tasks.judge_client import Failure
from tasks.judge_settings import judge_settings
from tasks.verifier import Said, judge_name, said_by, verified
from tests.served import served

HERE = "verifier_functions"
Reply = tuple[int, bytes]


def question(content: str) -> dict[str, Any]:
    return {
        "scenario_id": "s",
        "messages": [{"role": "user", "content": "?"}],
        "tools": [],
        "answer": {"role": "assistant", "content": content},
        "logged_answer": {"role": "assistant", "content": "BUY"},
        "metadata": {"day": 3},
    }


def ask(setting: str, *contents: str) -> list[Said | Failure]:
    beats: list[tuple[int, int]] = []

    def beat(_: object, done: int, total: int) -> None:
        beats.append((done, total))

    found = asyncio.run(verified(setting, [question(one) for one in contents], beat))
    assert [done for done, _ in beats] == list(range(1, len(contents) + 1))
    assert {total for _, total in beats} == {len(contents)}
    return found


@contextmanager
def standing(
    behaviour: Callable[[dict[str, Any], int], Reply],
) -> Iterator[tuple[str, list[dict[str, Any]], list[str]]]:
    """A verifier's URL, the questions that it got, and the keys that came with them."""
    asked: list[dict[str, Any]] = []
    keys: list[str] = []
    lock = threading.Lock()

    class Asked(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append(body)
                keys.append(self.headers.get("Authorization", ""))
                number = len(asked)
            status, answer = behaviour(body, number)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with served(Asked) as url:
        yield f"{url}/right", asked, keys


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(verifier, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delenv("RLFLEET_VERIFIER_KEY", raising=False)
    judge_settings.cache_clear()
    yield
    judge_settings.cache_clear()


def right(value: Any, **more: Any) -> Reply:
    return 200, json.dumps({"right": value} | more).encode()


def test_a_url_is_asked_with_everything_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_VERIFIER_KEY", "the-key")
    judge_settings.cache_clear()
    with standing(lambda asked, _: right(asked["answer"]["content"] == "BUY", reason="by its word")) as (
        url,
        asked,
        keys,
    ):
        assert ask(url, "BUY", "SELL") == [Said(True, "by its word"), Said(False, "by its word")]
    assert sorted(asked, key=str) == sorted([question("BUY"), question("SELL")], key=str)
    assert keys == ["Bearer the-key"] * 2
    assert judge_name(url).endswith("/right")
    assert judge_name("https://example.org/a").removeprefix("verifier/") == "example.org/a"


def test_null_is_no_verdict_and_no_failure() -> None:
    with standing(lambda *_: right(None, reason="nobody knows")) as (url, _, keys):
        assert ask(url, "BUY") == [Said(None, "nobody knows")]
    assert keys == [""]


@pytest.mark.parametrize("status", [429, 408, 500, 503])
def test_a_server_that_is_busy_is_asked_again(status: int) -> None:
    with standing(lambda _, number: (status, b"") if number < 3 else right(True)) as (url, asked, _):
        assert ask(url, "BUY") == [Said(True, None)]
    assert len(asked) == 3


def test_it_is_not_asked_for_ever() -> None:
    with standing(lambda *_: (500, b"")) as (url, asked, _):
        assert ask(url, "BUY") == [Failure("the verifier answered 500, 4 times", "later")]
    assert len(asked) == 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_is_said_once(status: int) -> None:
    with standing(lambda *_: (status, b"")) as (url, asked, _):
        found = ask(url, *["BUY"] * 30)
    assert {one.chance for one in found if isinstance(one, Failure)} == {"mended"}
    assert len(found) == 30
    assert len(asked) <= verifier.CONCURRENCY


@pytest.mark.parametrize(
    "reply",
    [
        (400, b""),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"right": 1}'),
        (200, b'{"right": "true"}'),
        (200, b"[true]"),
        (200, b"[" * 100_000),
        (200, b'{"right": true, "x": "' + b"y" * (2 << 20) + b'"}'),
    ],
)
def test_something_else_is_no_verdict_for_that_answer(reply: Reply) -> None:
    with standing(lambda asked, _: reply if asked["answer"]["content"] == "SELL" else right(True)) as (url, _, _):
        first, second = ask(url, "BUY", "SELL")
    assert first == Said(True, None)
    assert isinstance(second, Failure)
    assert second.chance is None


def test_nobody_listens(closed_port: int) -> None:
    (found,) = ask(f"http://127.0.0.1:{closed_port}/right", "BUY")
    assert found == Failure("the verifier gave no answer, 4 times", "later")


def test_a_function_is_called_in_a_process_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(f"{HERE}:says_buy", "BUY", "SELL") == [Said(True, None), Said(False, None)]
    assert ask(f"{HERE}:like_the_log", "SELL") == [Said(False, "the log says BUY")]
    assert ask(f"{HERE}:unsure", "SELL") == [Said(None, None)]
    assert "a library prints to stdout" in capfd.readouterr().err
    assert not [words for words in running() if "verifier_child" in words]


def running() -> list[str]:
    """The command lines of this process's descendants; servers among them end processes of their own at any time."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(one.cmdline()))
    return found


def test_an_exception_is_no_verdict_and_its_words_are_not_told() -> None:
    first, second = ask(f"{HERE}:raises_on_sell", "SELL", "BUY")
    assert isinstance(first, Failure)
    assert first.reason.startswith("the verifier: it raised ValueError (verifier_functions.py:")
    assert "secret" not in first.reason
    assert second == Said(True, None)


def test_one_that_hangs_is_ended_and_the_next_answer_has_a_new_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "SECONDS", 5.0)
    first, second = ask(f"{HERE}:hangs_on_sell", "SELL", "BUY")
    assert first == Failure("the verifier: it took longer than 5 s")
    assert second == Said(True, None)


@pytest.mark.parametrize("name", ["raises", "nonsense"])
def test_five_without_a_verdict_in_a_row_fail_the_job(name: str) -> None:
    with pytest.raises(InvalidSettings, match="5 answers in a row without a verdict"):
        asyncio.run(verified(f"{HERE}:{name}", [question("BUY")] * 9, lambda *_: None))
    mixed = ["SELL"] * 4 + ["BUY"] + ["SELL"] * 4
    assert ask(f"{HERE}:raises_on_sell", *mixed)[4] == Said(True, None)


@pytest.mark.parametrize("name", ["absent", "not_a_function"])
def test_a_function_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidSettings, match=r"cannot be loaded .* put it on the path of the gpu workers"):
        asyncio.run(verified(f"{HERE}:{name}", [question("BUY")], lambda *_: None))


def test_a_function_that_ends_its_process_is_tried_again_by_the_job() -> None:
    with pytest.raises(ChildLost):
        asyncio.run(verified(f"{HERE}:dies", [question("BUY")], lambda *_: None))


@pytest.mark.parametrize(
    ("found", "right"), [(True, True), (False, False), (None, None), ({"right": None, "reason": ""}, None)]
)
def test_what_an_answer_may_be(found: object, right: bool | None) -> None:
    assert said_by(found) == Said(right, None)


def test_a_reason_is_cut_and_can_be_stored() -> None:
    said = said_by({"right": True, "reason": "a\0\ud83d" + "x" * 1000})
    assert isinstance(said, Said)
    assert said.reason is not None
    assert len(said.reason) == 300
    assert said.reason.startswith("a?x")
