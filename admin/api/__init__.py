"""The API, one file per noun; ``ROUTERS`` is all of it."""

from admin.api import health, training

ROUTERS = (health.router, training.router)
