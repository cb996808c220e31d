"""The pages, one file each; ``PAGES`` is all of them, in the order of the menu."""

from admin.pages import (
    controls,
    environments,
    jobs,
    overview,
    releases,
    runs,
    session,
    trajectories,
    versions,
    windows,
)
from admin.pages.rendering import page_error

PAGES = (
    session.router,
    overview.router,
    windows.router,
    jobs.router,
    trajectories.router,
    versions.router,
    releases.router,
    controls.router,
    runs.router,
    environments.router,
)

__all__ = ["PAGES", "page_error"]
