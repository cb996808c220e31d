"""Cases that schemathesis makes of the OpenAPI document, sent to a real server with an operator's token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.admin.world import Api, populate, serving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def api(database: str, broker: object) -> Iterator[Api]:
    with serving() as made:
        populate()
        yield made


def attack(api: Api, cases: int) -> int:
    """Send at least so many cases, half of them what the document forbids; their number.

    Operations that take nothing are asked once: there is no other case of them.
    """
    schema = schemathesis.openapi.from_url(f"{api.url}/api/admin/openapi.json")
    # Its 503 is no failure: this fleet has no engine.
    operations = [one.ok() for one in schema.exclude(path="/health").get_all_operations()]
    taking = sum(_takes_something(one) for one in operations)
    each = -(-cases // (2 * taking))
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {api.operator_token}"
        return sum(
            send(session, operation, mode, each)
            for operation in operations
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            if mode is GenerationMode.POSITIVE or _takes_something(operation)
        )


def send(session: requests.Session, operation: Any, mode: GenerationMode, cases: int) -> int:
    """Send so many cases of one operation; how many there were."""
    sent = []

    @seed(0)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: schemathesis.Case) -> None:
        sent.append(case)
        case.call_and_validate(session=session, checks=CHECKS)

    each()
    return len(sent)


def _takes_something(operation: Any) -> bool:
    return any((operation.path_parameters, operation.query, operation.body))


def test_a_few_cases(api: Api) -> None:
    assert attack(api, 100) >= 100


@pytest.mark.slow
def test_garbage_is_answered_as_documented(api: Api) -> None:
    assert attack(api, 2000) >= 2000
