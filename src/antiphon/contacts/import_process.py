"""Reading a file in a process of its own, so that reading and storing each have a core.

The parent writes an ImportJob to the child's input; the child answers with frames (a letter, a length, MessagePack):
B a batch, F why it cannot go on, E the end. The pipe is the flow control: a child whose parent has died ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from antiphon.contacts.import_model import Batch, ImportJob
from antiphon.core.errors import Invalid

_LENGTH = 8


class ReadingFailed(Exception):
    """The file cannot be read to its end; the text says why and what to do."""


class Reader:
    """The parent's side: `next()` is the next batch, None at the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, job: ImportJob) -> Reader:
        """Start a process that reads the file after `job.after`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "antiphon.contacts.import_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.msgpack.encode(job))
        process.stdin.close()
        return cls(process)

    async def next(self) -> Batch | None:
        """The next batch, None at the end. Raises ReadingFailed."""
        assert self.process.stdout is not None
        try:
            head = await self.process.stdout.readexactly(1 + _LENGTH)
            content = await self.process.stdout.readexactly(int.from_bytes(head[1:]))
        except asyncio.IncompleteReadError:
            code = await self.process.wait()
            raise ReadingFailed(
                f"the process that read the file ended unexpectedly ({code}); was it killed for lack of memory?"
            ) from None
        match head[:1]:
            case b"B":
                return msgspec.msgpack.decode(content, type=Batch)
            case b"F":
                raise ReadingFailed(content.decode())
            case _:
                return None

    async def close(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()


@contextlib.asynccontextmanager
async def reading(job: ImportJob) -> AsyncIterator[Reader]:
    """A reader that is closed at the end."""
    reader = await Reader.start(job)
    try:
        yield reader
    finally:
        await reader.close()


def main() -> None:
    """The child: read an ImportJob, answer with frames."""
    from antiphon.contacts import reading
    from antiphon.contacts.import_rows import RowReader

    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ImportJob)
    output = sys.stdout.buffer
    try:
        for batch in RowReader(job).batches(reading.read(Path(job.path), job.plan.layout)):
            _send(output, b"B", msgspec.msgpack.encode(batch))
        _send(output, b"E", b"")
    except Invalid as error:
        _send(output, b"F", error.detail.encode())
    except OSError as error:
        _send(output, b"F", f"{job.path} cannot be read: {error.strerror or error}".encode())


def _send(output: BinaryIO, letter: bytes, content: bytes) -> None:
    output.write(letter + len(content).to_bytes(_LENGTH) + content)
    output.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        main()
