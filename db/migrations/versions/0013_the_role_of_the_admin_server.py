"""Tokens, sessions and the audit are not for workers to write, and the admin server has a role of its own

Which right is whose is said after the newest revision (``db.roles``); here is nothing to do but on the way back.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

GIVE_BACK = """
do $$ begin
    if exists (select from pg_namespace where nspname = 'rlfleet' and pg_get_userbyid(nspowner) = 'rlfleet_migrate') then
        grant select, insert, update, delete on rlfleet.audit, rlfleet.sessions, rlfleet.tokens to rlfleet_worker;
    end if;
end $$
"""


def upgrade() -> None:
    """Nothing: a revision is what has the rights said again."""


def downgrade() -> None:
    """Give workers what they had, as an admin server of older code logs in as one of them. The role stays."""
    op.execute(GIVE_BACK)
