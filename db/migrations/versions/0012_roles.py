"""Partitions that those who may define nothing can have made

The roles themselves come after the newest revision, because whoever migrates may lack the right to make them
(``db.roles``). Until they are there these functions do what their caller may do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Whoever calls these has the lock on the partition's name, as in db.partitions. Functions that may act for their owner
# trust no setting of who calls, and take nothing but a name that they take apart.
MAKE_PARTITION = r"""
create function rlfleet.make_partition(partition text) returns void language plpgsql
    set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    part text[] := regexp_match(partition, '^(calls|trajectories|turns)_(\d{4})w(\d{2})$');
    week timestamptz := to_date(part[2] || part[3], 'IYYYIW')::timestamp at time zone 'UTC';
begin
    if part is null or to_char(week at time zone 'UTC', 'IYYY"w"IW') <> part[2] || 'w' || part[3]
       or week not between '2000-01-01T00:00Z' and now() + interval '42 days' then
        raise exception 'no partition is called %', partition using errcode = 'invalid_parameter_value';
    end if;
    -- An empty table is attached, because "create table ... partition of" would wait for all readers and writers.
    execute format('create table rlfleet.%I (like rlfleet.%I including defaults including constraints including storage)',
                   partition, part[1]);
    execute format('alter table rlfleet.%I attach partition rlfleet.%I for values from (%L) to (%L)',
                   part[1], partition, week, week + interval '7 days');
end $$
"""
DROP_PARTITION = r"""
create function rlfleet.drop_partition(partition text) returns void language plpgsql
    set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' as $$
declare
    part text[] := regexp_match(partition, '^(calls|trajectories|turns)_(\d{4})w(\d{2})$');
begin
    if part is null then
        raise exception 'no partition is called %', partition using errcode = 'invalid_parameter_value';
    end if;
    execute format('alter table rlfleet.%I detach partition rlfleet.%I', part[1], partition);
    execute format('drop table rlfleet.%I', partition);
end $$
"""

UNDO_DEFAULTS = """
do $$ begin
    if exists (select from pg_default_acl where pg_get_userbyid(defaclrole) = 'rlfleet_migrate') then
        alter default privileges for role rlfleet_migrate in schema rlfleet
            revoke select, insert, update, delete on tables from rlfleet_worker;
        alter default privileges for role rlfleet_migrate in schema rlfleet
            revoke select on sequences from rlfleet_worker;
        alter default privileges for role rlfleet_migrate grant execute on functions to public;
    end if;
end $$
"""


def upgrade() -> None:
    """Make the functions."""
    for statement in (MAKE_PARTITION, DROP_PARTITION):
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    """Drop the functions, and give nobody what is made from here on. Roles, owners and other grants stay.

    Processes of older code define partitions themselves: their login has to be a member of ``rlfleet_migrate``.
    """
    op.execute(UNDO_DEFAULTS)
    op.execute("drop function rlfleet.make_partition(text), rlfleet.drop_partition(text)")
