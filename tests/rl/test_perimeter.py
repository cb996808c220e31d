from __future__ import annotations

import pytest

from rl.perimeter import exposed

PG, REDIS = "postgresql://u:hush@{}/n{}", "{}://u:hush@{}/0{}"


@pytest.mark.parametrize("host", ["127.0.0.1:5432", "127.9.9.9", "localhost", "[::1]:5432", ""])
def test_this_machine_needs_no_tls(host: str) -> None:
    assert exposed(PG.format(host, "")) is None
    assert exposed(REDIS.format("redis", host, "")) is None


def test_a_local_socket_needs_no_tls() -> None:
    assert exposed("postgresql:///n?host=/run/postgresql") is None
    assert exposed("postgresql+psycopg2:///n") is None


@pytest.mark.parametrize(
    "query", ["", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?host=db.internal"]
)
def test_postgres_elsewhere_is_verified(query: str) -> None:
    said = exposed(PG.format("db.internal", query))
    assert said is not None
    assert "sslmode=verify-full" in said
    assert "hush" not in said
    assert exposed(PG.format("db.internal", query), private=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hush@127.0.0.1/n?host=db.internal",
        "postgresql://u:hush@127.0.0.1/n?hostaddr=10.0.0.7",
        "postgresql:///n?host=/run/postgresql&hostaddr=10.0.0.7",
        "postgresql://u:hush@127.0.0.1:5432,db.internal:5432/n",
        "postgresql:///n?host=127.0.0.1&host=db.internal",
        "postgresql:///n?host=localhost,db.internal",
        "postgresql://u:hush@127.0.0.1/n?service=fleet",
    ],
)
def test_wherever_libpq_would_go_counts(url: str) -> None:
    said = exposed(url)
    assert said is not None
    assert "hush" not in said
    joint = "&" if "?" in url else "?"
    assert exposed(f"{url}{joint}sslmode=verify-full") is None
    assert exposed(url, private=True) is None


@pytest.mark.parametrize("url", ["postgresql:///n?host=%2Frun%2Fpostgresql", "postgresql://%2Frun%2Fpostgresql/n"])
def test_a_socket_may_be_written_as_a_host(url: str) -> None:
    assert exposed(url, environ={"PGHOST": "db.internal"}) is None


@pytest.mark.parametrize(
    ("url", "environ", "is_wrong"),
    [
        ("postgresql:///n", {"PGHOST": "db.internal"}, True),
        ("postgresql:///n", {"PGHOST": "127.0.0.1"}, False),
        ("postgresql:///n", {"PGHOST": "db.internal", "PGSSLMODE": "verify-full"}, False),
        ("postgresql:///n?sslmode=require", {"PGHOST": "db.internal", "PGSSLMODE": "verify-full"}, True),
        ("postgresql://127.0.0.1/n", {"PGHOST": "db.internal"}, False),
        ("postgresql://127.0.0.1/n", {"PGHOSTADDR": "10.0.0.7"}, True),
        ("postgresql://127.0.0.1/n", {"PGSERVICE": "fleet"}, True),
        ("redis://127.0.0.1/0", {"PGHOST": "db.internal", "PGSERVICE": "fleet"}, False),
    ],
)
def test_the_variables_of_libpq_count_where_the_url_is_silent(
    url: str, environ: dict[str, str], is_wrong: bool
) -> None:
    assert (exposed(url, environ=environ) is not None) is is_wrong


def test_the_query_of_redis_names_no_other_host() -> None:
    assert exposed("redis://redis.internal/0?host=127.0.0.1") is not None
    assert exposed("redis://127.0.0.1/0?host=redis.internal") is None
    assert exposed("redis:///0?host=redis.internal") is not None


def test_postgres_that_is_verified_may_be_elsewhere() -> None:
    assert exposed(PG.format("db.internal", "?sslmode=verify-full&sslrootcert=/ca.pem")) is None


@pytest.mark.parametrize("host", ["redis.internal:6379", "10.0.0.7", "[2001:db8::1]"])
def test_redis_elsewhere_speaks_tls(host: str) -> None:
    said = exposed(REDIS.format("redis", host, ""))
    assert said is not None
    assert "rediss://" in said
    assert exposed(REDIS.format("redis", host, ""), private=True) is None
    assert exposed(REDIS.format("rediss", host, "")) is None
    assert exposed(REDIS.format("rediss", host, "?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_REQUIRED")) is None


@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_OPTIONAL", "ssl_check_hostname=False"])
@pytest.mark.parametrize("host", ["127.0.0.1", "redis.internal"])
@pytest.mark.parametrize("private", [False, True])
def test_tls_that_looks_at_nothing_is_wrong_everywhere(query: str, host: str, private: bool) -> None:
    said = exposed(REDIS.format("rediss", host, f"?{query}"), private=private)
    assert said is not None
    assert query.partition("=")[0] in said
