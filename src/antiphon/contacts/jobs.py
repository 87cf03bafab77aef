"""What the worker does for contacts: imports that came over the API, a batch a step."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from msgspec import Struct, structs

from antiphon.contacts import import_batch, import_records, imports
from antiphon.contacts.import_batch import Overtaken, Raced
from antiphon.contacts.import_model import Batch, ImportJob, Stored
from antiphon.contacts.import_process import Reader, ReadingFailed
from antiphon.contacts.importer import BATCH_ROWS
from antiphon.core import clock
from antiphon.core.db import Connection
from antiphon.jobs.model import Continue, Done, Run
from antiphon.organizations.model import Actor

_PATIENCE = 20.0  # seconds that a step waits for the reader, its transaction open
_LEFT_AFTER = 300.0
_AGAIN = timedelta(seconds=1)
_WAIT_FOR_OTHERS = timedelta(hours=1)


class ImportContacts(Struct, frozen=True, kw_only=True):
    """Import an uploaded file."""

    import_id: UUID


class _Open:
    """A file being read between steps: after which line, and the batch that is on its way."""

    def __init__(self, reader: Reader, position: int) -> None:
        self.reader = reader
        self.position = position
        self.coming = asyncio.ensure_future(reader.next())
        self.used_at = clock.boottime()


class Importing:
    """The handler of ImportContacts. It keeps files open from step to step, so that none is read twice.

    A step that was rolled back, or left to another worker, is noticed by the position, and the file read anew.
    """

    def __init__(self) -> None:
        self.files: dict[UUID, _Open] = {}

    async def __call__(self, conn: Connection, job: ImportContacts, run: Run) -> Continue | Done:
        """Store one batch. An import that was canceled is left as it is."""
        actor = Actor.system(run.org_id)
        await self._close_left()
        stored = await import_records.get(conn, run.org_id, job.import_id)
        if stored.status != "running" or stored.file_path is None:
            await self._forget(conn, stored)
            return Done({"status": stored.status})
        path = Path(stored.file_path)
        if not path.exists():
            return await self._elsewhere(conn, actor, stored)
        file = await self._file(stored, path)
        await asyncio.wait({file.coming}, timeout=_PATIENCE)
        if not file.coming.done():
            return Continue(_progress(stored), run_at=clock.now() + _AGAIN)
        try:
            batch = file.coming.result()
        except ReadingFailed as error:
            await imports.finish(conn, actor, stored.id, "failed", str(error))
            await self._forget(conn, stored)
            return Done({"status": "failed"})
        if batch is None:
            await imports.finish(conn, actor, stored.id, "done")
            await self._forget(conn, stored)
            return Done({"status": "done"})
        return await self._store(conn, run.org_id, stored, file, batch)

    async def _elsewhere(self, conn: Connection, actor: Actor, stored: Stored) -> Continue | Done:
        """The file lies in another machine's data folder: leave it to that machine's worker, but not for ever."""
        if clock.now() - stored.created_at < _WAIT_FOR_OTHERS:
            return Continue(_progress(stored), run_at=clock.now() + _AGAIN)
        reason = (
            f"{stored.file_path} is on no machine that runs a worker; share the data folder, or send it again"
        )
        await imports.finish(conn, actor, stored.id, "failed", reason)
        return Done({"status": "failed"})

    async def _store(
        self, conn: Connection, org_id: UUID, stored: Stored, file: _Open, batch: Batch
    ) -> Continue | Done:
        plan = imports.plan_of(stored)
        try:
            outcome = await import_batch.store(conn, org_id, stored, plan, batch)
            await import_batch.advance(conn, org_id, stored, batch, outcome)
        except (Raced, Overtaken):
            await self._close(stored.id)
            raise
        file.position = batch.position
        file.coming = asyncio.ensure_future(file.reader.next())
        return Continue(_progress(structs.replace(stored, done_bytes=batch.done_bytes)))

    async def _file(self, stored: Stored, path: Path) -> _Open:
        found = self.files.get(stored.id)
        if found is not None and found.position == stored.position:
            found.used_at = clock.boottime()
            return found
        await self._close(stored.id)
        job = ImportJob(
            path=str(path),
            import_id=stored.id,
            plan=imports.plan_of(stored),
            after=stored.position,
            batch_rows=BATCH_ROWS,
        )
        opened = self.files[stored.id] = _Open(await Reader.start(job), stored.position)
        return opened

    async def _forget(self, conn: Connection, stored: Stored) -> None:
        """Close the file, and remove it once the end of the import is stored."""
        await self._close(stored.id)
        if stored.file_path is not None:
            path = Path(stored.file_path)

            async def remove() -> None:
                path.unlink(missing_ok=True)

            conn.after_commit["remove", path] = remove

    async def _close(self, import_id: UUID) -> None:
        found = self.files.pop(import_id, None)
        if found is not None:
            found.coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, ReadingFailed):
                await found.coming
            await found.reader.close()

    async def _close_left(self) -> None:
        """Close files whose import another worker goes on with."""
        oldest = clock.boottime() - _LEFT_AFTER
        for import_id in [i for i, file in self.files.items() if file.used_at < oldest]:
            await self._close(import_id)

    async def close(self) -> None:
        """Close every file; for the end of a worker."""
        for import_id in list(self.files):
            await self._close(import_id)


def _progress(stored: Stored) -> dict[str, object]:
    return {"done_bytes": stored.done_bytes, "total_bytes": stored.total_bytes}


import_contacts = Importing()
"""The handler for `entry/wiring.py`."""
