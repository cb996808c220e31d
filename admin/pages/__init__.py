"""The pages, one file each; ``PAGES`` is all of them, in the order of the menu."""

from admin.pages import overview, session
from admin.pages.rendering import page_error

PAGES = (session.router, overview.router)

__all__ = ["PAGES", "page_error"]
