"""The group roles of Postgres, and what each may do in the schema: docs/perimeter.md.

Nothing of this is a function of the database: a member of ``rlfleet_migrate`` could replace it, and whoever migrates,
perhaps a superuser, would run what it says then. A revision that adds a table adds its decision here.

``python -m db.roles`` prints the statements, for an administrator to run in a database of the newest revision.
"""

from __future__ import annotations

import sys
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from db.partitions import PARTITION
from db.session import INSUFFICIENT_PRIVILEGE

# A lock on a row needs the right to update a column of it.
STATEMENTS: Final = """
do $do$
declare
    one text;
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    foreach one in array
            array['rlfleet_migrate', 'rlfleet_worker', 'rlfleet_admin', 'rlfleet_gateway', 'rlfleet_viewer'] loop
        if not exists (select from pg_roles where rolname = one) then
            begin
                execute format('create role %I nologin', one);
            exception when duplicate_object or unique_violation then
                null;  -- made meanwhile for another database: roles are the whole cluster's
            end;
        end if;
    end loop;
    if not pg_has_role('rlfleet_admin', 'rlfleet_worker', 'usage') then
        begin
            grant rlfleet_worker to rlfleet_admin;
        exception when unique_violation then
            null;  -- meanwhile for another database
        end;
    end if;
    if current_user <> 'rlfleet_migrate' and not (select rolsuper from pg_roles where rolname = current_user) then
        begin
            execute format('grant rlfleet_migrate to %I', current_user);
        exception when insufficient_privilege or unique_violation then
            null;  -- a member already, or the first change of an owner fails
        end;
    end if;
    if (select nspowner <> 'rlfleet_migrate'::regrole from pg_namespace where nspname = 'rlfleet') then
        alter schema rlfleet owner to rlfleet_migrate;
        begin
            execute format('grant create on database %I to rlfleet_migrate', current_database());
        exception when insufficient_privilege then
            null;  -- only a restore into a database without the schema needs it
        end;
    end if;
    for one in select format('alter table rlfleet.%I owner to rlfleet_migrate', relname) from pg_class
                where relnamespace = 'rlfleet'::regnamespace and relkind in ('r', 'p', 'v')
                  and relowner <> 'rlfleet_migrate'::regrole
               union all
               select format('alter function %s owner to rlfleet_migrate', oid::regprocedure) from pg_proc
                where pronamespace = 'rlfleet'::regnamespace and proowner <> 'rlfleet_migrate'::regrole loop
        execute one;
    end loop;

    set local role rlfleet_migrate;
    grant usage on schema rlfleet to rlfleet_worker, rlfleet_gateway, rlfleet_viewer;
    revoke all on all tables in schema rlfleet from rlfleet_worker, rlfleet_admin, rlfleet_gateway, rlfleet_viewer;
    revoke all on all functions in schema rlfleet
        from public, rlfleet_worker, rlfleet_admin, rlfleet_gateway, rlfleet_viewer;
    alter default privileges in schema rlfleet grant select, insert, update, delete on tables to rlfleet_worker;
    alter default privileges in schema rlfleet grant select on sequences to rlfleet_worker;
    alter default privileges revoke execute on functions from public;

    -- After the rights to them: nobody else may have a partition dropped by its owner.
    alter function rlfleet.make_partition(text) security definer;
    alter function rlfleet.drop_partition(text) security definer;
    grant execute on function rlfleet.make_partition(text) to rlfleet_worker, rlfleet_gateway;
    grant execute on function rlfleet.drop_partition(text) to rlfleet_worker;

    grant select on rlfleet.alembic_version to rlfleet_worker, rlfleet_gateway;
    grant select, insert, update, delete on all tables in schema rlfleet to rlfleet_worker;
    revoke insert, update, delete on rlfleet.alembic_version from rlfleet_worker;
    grant select on all sequences in schema rlfleet to rlfleet_worker;
    -- Who is let in, and who did what, is not for workers to say; they note what they do, and remove old sessions.
    revoke update, delete on rlfleet.audit from rlfleet_worker;
    revoke all on rlfleet.sessions, rlfleet.tokens from rlfleet_worker;
    grant select (ctid, expires_at), delete on rlfleet.sessions to rlfleet_worker;
    grant select, insert, update on rlfleet.sessions, rlfleet.tokens to rlfleet_admin;

    grant select on rlfleet.checkpoints, rlfleet.controls, rlfleet.engines, rlfleet.releases, rlfleet.versions
        to rlfleet_gateway;
    grant select (id, name, config) on rlfleet.lines to rlfleet_gateway;
    grant select, insert, update, delete
        on rlfleet.call_keys, rlfleet.calls, rlfleet.feedback, rlfleet.recordings, rlfleet.turns to rlfleet_gateway;
    grant select, insert, delete on rlfleet.call_failures, rlfleet.outcomes to rlfleet_gateway;
    grant select (name, subject, created_at), insert (name, subject, detail) on rlfleet.alerts to rlfleet_gateway;
    grant select (id, "row", excerpt), insert, update (excerpt) on rlfleet.quarantine to rlfleet_gateway;
    grant select, update (erased_at) on rlfleet.trajectory_keys to rlfleet_gateway;
    grant select (trajectory_id), delete on rlfleet.trajectories to rlfleet_gateway;
    grant select (id), update (reason) on rlfleet.windows to rlfleet_gateway;
    grant select (trajectory_id) on rlfleet.dataset_trajectories to rlfleet_gateway;
    grant select (trajectory_id, compared_in, explanation), update (explanation) on rlfleet.scores to rlfleet_gateway;
    grant select (request_sha256), update (request_sha256, answer) on rlfleet.judgements to rlfleet_gateway;

    grant select on all tables in schema rlfleet to rlfleet_viewer;
    revoke all on rlfleet.sessions, rlfleet.tokens from rlfleet_viewer;
    grant select (id, token_id, created_at, expires_at) on rlfleet.sessions to rlfleet_viewer;
    grant select (id, name, role, created_by, created_at, expires_at, revoked_at, used_at) on rlfleet.tokens
        to rlfleet_viewer;
    reset role;
end $do$;
"""

THEIRS: Final = text("""
    select relname from pg_class
     where relnamespace = to_regnamespace('rlfleet') and relispartition and relkind = 'r'
       and pg_get_userbyid(relowner) <> 'rlfleet_migrate' and pg_has_role(relowner, 'usage') order by relname
""")
"""Partitions that code before 0012 made for itself, and that this login may give away."""


def grant(connection: Connection) -> str | None:
    """Make the roles, give them what is there, and say what each may do. None, or what the server refused.

    Nothing was changed where it refused. It takes a database of the newest revision.
    """
    connection.execute(text("reset role"))
    try:
        with connection.begin_nested():
            connection.execute(text(STATEMENTS.replace(":", r"\:")))
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != INSUFFICIENT_PRIVILEGE:
            raise
        return str(error.orig).strip().splitlines()[0]
    return None


def act_as_owner(connection: Connection) -> None:
    """Act as ``rlfleet_migrate`` until the transaction ends, so that what is made is all members' to change.

    Before that it gets the partitions of this login: nobody may change a table that has a partition of somebody else.
    """
    names = [name for name in connection.scalars(THEIRS) if PARTITION.fullmatch(name)]
    for name in names:
        connection.execute(text(f"alter table rlfleet.{name} owner to rlfleet_migrate"))
    connection.execute(text("set local role rlfleet_migrate"))
    for name in names:
        connection.execute(text(f"grant select, insert, update, delete on rlfleet.{name} to rlfleet_worker"))


if __name__ == "__main__":
    sys.stdout.write(STATEMENTS.lstrip())
