"""Who signs in to the database: the owner migrates, antiphon_app serves, antiphon_worker works.

The last two own nothing and cannot escape row-level security; server and worker refuse to start as anybody who can.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from antiphon.core import embedded
from antiphon.core.settings import Settings

APP = "antiphon_app"
WORKER = "antiphon_worker"
OWNER = "antiphon_owner"
DATABASE = "antiphon"


class RoleError(RuntimeError):
    """A role that cannot be made or may not be used; the text says what to do."""


class DatabaseUrls(msgspec.Struct, frozen=True):
    """How each role signs in. `owner` is empty in a process that was not given it."""

    owner: str
    app: str
    worker: str


class Prepared(msgspec.Struct, frozen=True):
    """The database's three doors, and our share in the embedded server when it is ours."""

    urls: DatabaseUrls
    server: embedded.Embedded | None

    def release(self) -> None:
        """Give the share back; nothing for a database of somebody else's."""
        if self.server is not None:
            self.server.release()


def prepare(settings: Settings) -> Prepared:
    """The database that the settings name, with its roles; the embedded one, started, when they name none."""
    if settings.is_embedded:
        server = embedded.start(settings.data_dir)
        try:
            return Prepared(ensure_embedded(server.url, settings.data_dir), server)
        except BaseException:
            server.release()
            raise
    if settings.database_url:
        urls = ensure_roles(
            settings.database_url,
            settings.data_dir,
            app_url=settings.app_database_url,
            worker_url=settings.worker_database_url,
        )
        return Prepared(urls, None)
    app, worker = settings.app_database_url, settings.worker_database_url
    return Prepared(DatabaseUrls("", app or worker or "", worker or app or ""), None)


def ensure_embedded(superuser_url: str, data_dir: Path, database: str = DATABASE) -> DatabaseUrls:
    """The embedded server's owner role (no superuser), its database, and the two roles. Repeating is harmless."""
    with _secrets(data_dir) as known, psycopg.connect(superuser_url, autocommit=True) as conn:
        password = _ensure_role(conn, OWNER, known.get(OWNER), is_owner=True, may_reset=True)
        known.set(OWNER, password)
        if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
            conn.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(OWNER))
            )
    return ensure_roles(_signed_in(superuser_url, OWNER, password, database), data_dir, may_reset=True)


def ensure_roles(
    owner_url: str,
    data_dir: Path,
    *,
    app_url: str | None = None,
    worker_url: str | None = None,
    may_reset: bool = False,
) -> DatabaseUrls:
    """Make antiphon_app and antiphon_worker where they are missing, and say how each signs in.

    Their passwords come from `app_url` and `worker_url` where these are given; else they are generated and kept in
    `<data_dir>/roles.json` (0600). Several processes may do this at once, for several databases of one server.
    Raises RoleError when a role exists and its password is not known here, unless `may_reset` allows to set a new one.
    """
    found: dict[str, str] = {}
    with _secrets(data_dir) as known, psycopg.connect(owner_url, autocommit=True) as conn:
        for role, given in ((APP, app_url), (WORKER, worker_url)):
            wanted = conninfo_to_dict(given) if given else {}
            own_password = wanted.get("password") if wanted.get("user") == role else None
            password = _ensure_role(
                conn, role, str(own_password) if own_password else known.get(role), may_reset=may_reset
            )
            if given is None:
                known.set(role, password)
            found[role] = given or _signed_in(owner_url, role, password)
    return DatabaseUrls(owner_url, found[APP], found[WORKER])


async def refuse_privileged(conn: psycopg.AsyncConnection[Any]) -> None:
    """Raises RoleError when this connection's role could see past row-level security: an owner or a superuser."""
    row = await (
        await conn.execute(
            "SELECT rolname, rolsuper, rolbypassrls, EXISTS ("
            "  SELECT FROM pg_class WHERE relowner = r.oid AND relkind IN ('r', 'p') AND relname = 'organizations')"
            " FROM pg_roles r WHERE rolname = current_user"
        )
    ).fetchone()
    assert row is not None
    name, is_superuser, may_bypass, is_owner = row
    why = (
        "is a superuser"
        if is_superuser
        else "may bypass row-level security"
        if may_bypass
        else "owns the tables"
        if is_owner
        else ""
    )
    if why:
        raise RoleError(
            f"the database role {name!r} {why}, so nothing would keep organizations apart: "
            f"set ANTIPHON_APP_DATABASE_URL and ANTIPHON_WORKER_DATABASE_URL to sign in as {APP} and {WORKER}"
        )


def _ensure_role(
    conn: psycopg.Connection[Any],
    role: str,
    password: str | None,
    *,
    is_owner: bool = False,
    may_reset: bool = False,
) -> str:
    """The password of a role that certainly exists afterwards."""
    exists = conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None
    if exists and password:
        return password
    if exists and not may_reset:
        raise RoleError(
            f"the database role {role} exists, but its password is not known on this machine: set "
            "ANTIPHON_APP_DATABASE_URL and ANTIPHON_WORKER_DATABASE_URL, or copy roles.json from where it was made"
        )
    password = password or secrets.token_urlsafe(24)
    hashed = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}" if exists else "CREATE ROLE {} LOGIN PASSWORD {}")
    if is_owner and not exists:
        statement = sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}")
    try:
        conn.execute(statement.format(sql.Identifier(role), sql.Literal(hashed)))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return _ensure_role(conn, role, None)  # another process was faster, so only it knows the password
    except psycopg.errors.InsufficientPrivilege as error:
        raise RoleError(
            f"the owner of the database may not create the role {role} ({error.diag.message_primary}): "
            f"give it CREATEROLE, or create {APP} and {WORKER} as LOGIN roles and set ANTIPHON_APP_DATABASE_URL and "
            "ANTIPHON_WORKER_DATABASE_URL"
        ) from None
    return password


def _signed_in(url: str, role: str, password: str, database: str | None = None) -> str:
    """The same server, as somebody else."""
    if "://" not in url:
        return make_conninfo(url, user=role, password=password, **({"dbname": database} if database else {}))
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    path = f"/{database}" if database else parts.path
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(password, safe='')}@{place}", path=path))


class _secrets:  # noqa: N801 - used like a function, in `with`
    """The passwords this machine knows, locked while they are looked at, written when they changed."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._path = data_dir / "roles.json"
        self._known: dict[str, str] = {}

    def __enter__(self) -> _secrets:
        self._lock = self._path.with_suffix(".lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if self._path.exists():
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def get(self, role: str) -> str | None:
        return self._known.get(role)

    def set(self, role: str, password: str) -> None:
        if self._known.get(role) == password:
            return
        self._known[role] = password
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._known))
        fresh.replace(self._path)
