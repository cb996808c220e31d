from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from recorder import Recorder
from tests.recorder.chat_server import ChatServer, chat_server
from tests.recorder.doubles import Scripted, scripted


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


@pytest.fixture
def recorder(server: Scripted) -> Iterator[Recorder]:
    with Recorder(server.url, linger_seconds=0.01) as found:
        yield found


@pytest.fixture
def model() -> Iterator[ChatServer]:
    with chat_server() as found:
        yield found


@pytest.fixture
def client(model: ChatServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=model.url, api_key="k", max_retries=0) as found:
        yield found
