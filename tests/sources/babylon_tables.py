"""The tables of a Babylon-style database, as its own migrations make them, and how to look at one."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import extensions

TABLES = """
create table trajectories (
    id text primary key, "trajectoryId" text unique, "agentId" text,
    "startTime" timestamp(3), "endTime" timestamp(3), "durationMs" integer,
    "windowId" varchar(50), "windowHours" integer default 1, "episodeId" varchar(100), "scenarioId" varchar(100),
    "batchId" varchar(100), "stepsJson" text, "rewardComponentsJson" text, "metricsJson" text, "metadataJson" text,
    "totalReward" double precision, "episodeLength" integer, "finalStatus" text, "finalBalance" double precision,
    "finalPnL" double precision, "tradesExecuted" integer, "postsCreated" integer, "aiJudgeReward" double precision,
    "aiJudgeReasoning" text, "judgedAt" timestamp(3), "isTrainingData" boolean default true,
    "isEvaluation" boolean default false, "usedInTraining" boolean default false, "trainedInBatch" text,
    "createdAt" timestamp(3) default now(), "updatedAt" timestamp(3) not null, archetype text);
create index on trajectories ("agentId", "startTime");
create index on trajectories ("aiJudgeReward");
create index on trajectories ("isTrainingData", "usedInTraining");
create index on trajectories ("scenarioId", "createdAt");
create index on trajectories ("trainedInBatch");
create index on trajectories ("windowId");
create index on trajectories ("windowId", "agentId");
create table llm_call_logs (
    id text primary key, "trajectoryId" text, "stepId" text, "callId" text unique, timestamp timestamp(3),
    "latencyMs" integer, model text, purpose text, "actionType" text, "systemPrompt" text, "userPrompt" text,
    "messagesJson" text, response text, reasoning text, temperature double precision, "maxTokens" integer,
    "topP" double precision, "promptTokens" integer, "completionTokens" integer, "totalTokens" integer,
    metadata text, "createdAt" timestamp(3) default now());
create index on llm_call_logs ("trajectoryId");
create table market_outcomes (
    id text primary key, "windowId" varchar(50), "stockTicker" text, "startPrice" decimal(10,2),
    "endPrice" decimal(10,2), "changePercent" decimal(5,2), sentiment text, "newsEvents" json,
    "predictionMarketId" text, question text, outcome text, "finalProbability" decimal(5,4), volume decimal(15,2),
    "createdAt" timestamp(3) default now());
create index on market_outcomes ("windowId");
create table reward_judgments (
    id text primary key, "trajectoryId" text unique references trajectories ("trajectoryId"), "judgeModel" text,
    "judgeVersion" text, "overallScore" double precision, "componentScoresJson" text, rank integer,
    "normalizedScore" double precision, "groupId" text, reasoning text, "strengthsJson" text, "weaknessesJson" text,
    "criteriaJson" text, "judgedAt" timestamp(3));
create table training_batches (
    id text primary key, "batchId" text unique, "scenarioId" text, "baseModel" text, "modelVersion" text,
    "trajectoryIds" text, "rankingsJson" text, "rewardsJson" text, "trainingLoss" double precision,
    "policyImprovement" double precision, status text, error text, "createdAt" timestamp(3), "startedAt" timestamp(3),
    "completedAt" timestamp(3));
create table trained_models (
    id text primary key, "modelId" text unique, version text, "baseModel" text, "trainingBatch" text, status text,
    "deployedAt" timestamp(3), "archivedAt" timestamp(3), "storagePath" text, "benchmarkScore" double precision,
    accuracy double precision, "avgReward" double precision, "evalMetrics" json, "wandbRunId" text,
    "wandbArtifactId" text, "huggingFaceRepo" text, "agentsUsing" integer, "totalInferences" integer,
    "lastBenchmarked" timestamp(3), "benchmarkCount" integer, "createdAt" timestamp(3),
    "updatedAt" timestamp(3) not null);
create table benchmark_results (
    id text primary key, "modelId" text, "benchmarkId" text, "benchmarkPath" text, "runAt" timestamp(3),
    "totalPnl" double precision, "predictionAccuracy" double precision, "perpWinRate" double precision,
    "optimalityScore" double precision, "detailedMetrics" json, "baselinePnlDelta" double precision,
    "baselineAccuracyDelta" double precision, improved boolean, duration integer, "createdAt" timestamp(3));
create table model_deployments (
    id text primary key, "modelId" text, "agentId" text, inferences integer, "avgLatency" double precision,
    "errorRate" double precision, "performanceMetrics" json, "deployedAt" timestamp(3), "undeployedAt" timestamp(3),
    "isActive" boolean);
"""
NAMES = (
    *("trajectories", "llm_call_logs", "market_outcomes", "reward_judgments", "training_batches", "trained_models"),
    *("benchmark_results", "model_deployments"),
)


HASH = "select md5(coalesce(string_agg(one, '' order by one), '')) from (select md5(t::text) as one from {} t) x"


@contextmanager
def cursor_on(url: str) -> Iterator[Any]:
    """A cursor in one transaction that is committed; psycopg2 cannot copy while a wait callback is set."""
    waiting = extensions.get_wait_callback()
    extensions.set_wait_callback(None)
    try:
        connection = psycopg2.connect("postgresql://" + url.split("://", 1)[1])
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()
    finally:
        extensions.set_wait_callback(waiting)


def create(cursor: Any) -> None:
    """Make all tables anew, empty."""
    for name in reversed(NAMES):
        cursor.execute(f"drop table if exists {name} cascade")
    cursor.execute(TABLES)


def fill(cursor: Any, table: str, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Copy the rows in; a column that a row lacks is null."""
    text = StringIO("".join("\t".join(_copied(row.get(name)) for name in columns) + "\n" for row in rows))
    quoted = ", ".join(f'"{name}"' for name in columns)
    cursor.copy_expert(f"copy {table} ({quoted}) from stdin", text)


def _copied(value: object) -> str:
    if value is None:
        return r"\N"
    escaped = str(value).replace("\\", "\\\\")
    return escaped.replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def checksums(url: str) -> dict[str, str]:
    """A hash of every row of every table, whatever their order."""
    with cursor_on(url) as cursor:
        found = {}
        for name in NAMES:
            cursor.execute(HASH.format(name))
            found[name] = str(cursor.fetchone()[0])
    return found


@contextmanager
def reader(url: str, *tables: str) -> Iterator[str]:
    """The URL of a role that has SELECT on those tables (all three that are read, by default) and nothing else."""
    role, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
    with cursor_on(url) as cursor:
        cursor.execute(f"create role {role} login password '{password}'")
        cursor.execute(f"grant select on {', '.join(tables or NAMES[:3])} to {role}")
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 5432}"
    try:
        yield urlunsplit(parts._replace(scheme="postgresql", netloc=f"{role}:{password}@{place}"))
    finally:
        with cursor_on(url) as cursor:
            cursor.execute(f"drop owned by {role}")
            cursor.execute(f"drop role {role}")
