from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from logging.config import dictConfig

import pytest
from celery.app.log import TaskFormatter
from celery.signals import after_setup_logger
from celery.utils.log import get_multiprocessing_logger

from rl import logs
from worker.logs import TaskFields, forget, shape


@pytest.fixture(autouse=True)
def _about_nothing() -> Iterator[None]:
    logs.about()
    yield
    logs.about()


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("tasks.score", logging.WARNING, __file__, 1, message, args, exc_info)


def parsed(one: logging.LogRecord) -> dict[str, object]:
    line = logs.JsonFormatter().format(one)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_json_says_which_job_a_line_is_about() -> None:
    logs.about(job=7, fence=2, window="2025-01-15T10:00", line="main", nothing=None)
    found = parsed(record("took %s\nback", 3))
    assert str(found.pop("ts")).endswith("Z")
    assert found == {
        "level": "WARNING",
        "logger": "tasks.score",
        "message": "took 3\nback",
        "job": 7,
        "fence": 2,
        "window": "2025-01-15T10:00",
        "line": "main",
    }
    forget()
    assert "job" not in parsed(record("later"))


def test_an_exception_is_one_field() -> None:
    try:
        raise ValueError("no\nrow")
    except ValueError as error:
        found = parsed(record("failed", error=error))
    assert str(found["exception"]).startswith("Traceback (most recent call last):\n")
    assert str(found["exception"]).endswith("ValueError: no\nrow")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgresql://me:s3cret@db:5432/x", "postgresql://***@db:5432/x"),
        ("redis://:s3cret@here/0 is away", "redis://***@here/0 is away"),
        ("smtps://me%40x:s3@mail, https://s3cret@x", "smtps://***@mail, https://***@x"),
        ("{'Authorization': 'Bearer s3cret'}", "{'Authorization': 'Bearer ***'}"),
        ("https://example.org/@someone and a@b", "https://example.org/@someone and a@b"),
    ],
)
def test_no_line_shows_a_password(said: str, shown: str) -> None:
    try:
        raise OSError(said)
    except OSError as error:
        found = parsed(record("%s", said, error=error))
        text = logs.TextFormatter().format(record("%s", said, error=error))
    assert found["message"] == shown
    assert str(found["exception"]).endswith(f"OSError: {shown}")
    assert ("s3" in text, shown in text) == (False, True)


def test_text_keeps_how_celery_writes_and_says_the_job_on_the_first_line() -> None:
    logs.about(job=7, fence=2, line="main")
    inner = TaskFormatter("%(levelname)s %(task_name)s[%(task_id)s]: %(message)s", use_color=False)
    one = record("two\nlines")
    assert logs.formatter("text", inner).format(one) == r"WARNING ???[???]: two\nlines {job=7 fence=2 line=main}"
    logs.about()
    assert logs.formatter("text", inner).format(one) == r"WARNING ???[???]: two\nlines"


def test_threads_that_begin_with_the_context_are_about_the_job_too() -> None:
    logs.about(job=7)
    seen: list[dict[str, object]] = []

    def look() -> None:
        seen.append(logs.known())

    for target in (copy_context().run, lambda run: run()):
        thread = threading.Thread(target=target, args=(look,))
        thread.start()
        thread.join()
    assert seen == [{"job": 7}, {}]


def test_each_setting_shapes_the_handlers_that_celery_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.settings import settings

    logger = logging.getLogger("a test of handlers")
    for kind, formatter in (("json", logs.JsonFormatter), ("text", logs.TextFormatter)):
        monkeypatch.setenv("RLFLEET_LOG", kind)
        settings.cache_clear()
        logger.handlers = [logging.StreamHandler(sys.stderr)]
        shape(logger)
        assert type(logger.handlers[0].formatter) is formatter
    assert TaskFields().filter(record("outside a task"))


def test_the_logger_of_the_pool_is_shaped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.settings import settings

    monkeypatch.setenv("RLFLEET_LOG", "json")
    settings.cache_clear()
    pool = get_multiprocessing_logger()
    handler = logging.StreamHandler(sys.stderr)
    pool.addHandler(handler)
    try:
        after_setup_logger.send(sender=None, logger=logging.getLogger("a test of the root"))
        assert type(handler.formatter) is logs.JsonFormatter
    finally:
        pool.removeHandler(handler)


def test_servers_log_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        dictConfig(logs.uvicorn_config("json"))
        logging.getLogger("gateway.storing").warning("the database is away: %s", "postgresql://a:s3cret@b/c")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before[0], before[1]
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "the database is away: postgresql://***@b/c"
