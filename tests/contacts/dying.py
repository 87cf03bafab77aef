"""Imports a file until a failpoint kills it: `python -m tests.contacts.dying URL ORGANIZATION FILE ROWS`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from uuid import UUID

from antiphon.contacts import importer
from antiphon.contacts.import_model import ImportOptions
from antiphon.contacts.importer import Watch
from antiphon.core import failpoints
from antiphon.core.db import Database
from antiphon.organizations.model import Actor


async def main(url: str, org_id: str, file: str, rows: str) -> None:
    failpoints.arm(os.environ.get("ANTIPHON_FAILPOINTS", ""))
    async with Database.connect(url, size=3) as database:
        watch = Watch(batch_rows=int(rows))
        options = ImportOptions(consent="newsletter", extra="attributes")
        await importer.run(database, Actor.operator(UUID(org_id)), Path(file), options, watch=watch)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
