"""The API, one file per noun; ``ROUTERS`` is all of it."""

from admin.api import (
    alarms,
    approvals,
    audit,
    health,
    jobs,
    lines,
    metrics,
    pauses,
    releases,
    runs,
    training,
    versions,
    windows,
)

ROUTERS = (
    health.router,
    training.router,
    lines.router,
    windows.router,
    jobs.router,
    pauses.router,
    versions.router,
    releases.router,
    approvals.router,
    runs.router,
    alarms.router,
    audit.router,
    metrics.router,
)
