"""What goes wrong, as a caller sees it on a bare socket, and what the log says was taken all the same."""

from __future__ import annotations

import asyncio
import gzip
import json
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from tests.simulator_process import Json, Simulator


async def exchange(
    sim: Simulator, seconds: float = 1.0, to: str = "1", reference: str = "r"
) -> tuple[bytes, str]:
    """One keyed request over a bare connection: the bytes that came, and how it ended: eof, reset, silence."""
    body = json.dumps({"to": to, "text": "x", "reference": reference}).encode()
    head = (
        f"POST /keyed/messages HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {reference}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    came = bytearray()
    try:
        writer.write(head.encode() + body)
        async with asyncio.timeout(seconds):
            while piece := await reader.read(65_536):
                came += piece
                if len(came) > 3_000_000:
                    return bytes(came), "flood"
        return bytes(came), "eof"
    except TimeoutError:
        return bytes(came), "silence"
    except ConnectionResetError:
        return bytes(came), "reset"
    finally:
        writer.close()


def status_of(came: bytes) -> int:
    return int(came.split(b" ", 2)[1])


def body_of(came: bytes) -> bytes:
    return came.partition(b"\r\n\r\n")[2]


CUT: dict[str, tuple[Json, str]] = {
    "reset after it was taken": ({"answer": "reset"}, "reset"),
    "closed after it was taken": ({"answer": "close"}, "eof"),
    "silence after it was taken": ({"answer": "hang"}, "silence"),
    "half of the answer": ({"answer": "half"}, "eof"),
    "half of the answer, then silence": ({"answer": "half_hang"}, "silence"),
    "not HTTP": ({"answer": "garbage"}, "eof"),
    "a byte a second": ({"answer": "drip", "seconds": 0.3}, "silence"),
    "a length that is a lie": ({"answer": "wrong_length"}, "eof"),
    "headers without end": ({"answer": "endless_headers"}, "flood"),
    "a body without end": ({"answer": "endless_body"}, "flood"),
}


@pytest.mark.parametrize("case", CUT)
async def test_the_message_is_taken_and_the_answer_is_cut(case: str, sim: Simulator) -> None:
    fault, ending = CUT[case]
    await sim.fault(provider="keyed", **fault)
    came, ended = await exchange(sim)
    assert ended == ending
    whole = b'"status":"accepted"' in came and came.endswith(b"}")
    assert not whole or fault["answer"] == "wrong_length"
    [entry] = await sim.log()
    assert (entry["verdict"], entry["answer"]) == ("accepted", fault["answer"])
    again, _ = await exchange(sim)
    assert status_of(again) == 200, "the fault struck once"
    assert (await sim.summary())["sends"]["keyed"] == {"accepted": 1, "replayed": 1}


async def test_a_reset_may_come_without_the_message_being_taken(sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="reset", accept=False)
    assert (await exchange(sim))[1] == "reset"
    assert [entry["verdict"] for entry in await sim.log()] == ["fault"]


SAID: dict[str, tuple[Json, int]] = {
    "500": ({"answer": "status", "status": 500}, 500),
    "502 with a page": ({"answer": "status", "status": 502, "body": "<h1>Bad Gateway</h1>"}, 502),
    "503": ({"answer": "status", "status": 503, "retry_after": "7"}, 503),
    "a status that nobody defined": ({"answer": "status", "status": 599}, 599),
    "504": ({"answer": "status", "status": 504}, 504),
    "the provider's error": ({"answer": "error", "code": "suspended", "status": 403}, 403),
    "a redirect": ({"answer": "redirect"}, 307),
}


@pytest.mark.parametrize("case", SAID)
async def test_an_error_takes_nothing_unless_told_to(case: str, sim: Simulator) -> None:
    fault, status = SAID[case]
    await sim.fault(provider="keyed", **fault)
    came, _ = await exchange(sim)
    assert status_of(came) == status
    assert [entry["verdict"] for entry in await sim.log()] == ["fault"]
    await sim.fault(provider="keyed", **fault, accept=True)
    came, _ = await exchange(sim, reference="r2")
    assert status_of(came) == (status if fault["answer"] != "error" else 200)
    assert (await sim.log())[-1]["verdict"] == "accepted"


@pytest.mark.parametrize("text", ["5", "1000000000", "-3", "soon", ""])
async def test_retry_after_is_said_as_worded(text: str, sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="status", status=429, retry_after=text)
    came, _ = await exchange(sim)
    assert f"retry-after: {text}".strip() in came.decode().lower()


async def test_retry_after_may_be_a_date_or_left_out(sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="status", status=429, retry_after="date:30")
    await sim.fault(provider="keyed", answer="status", status=429)
    dated, bare = (await exchange(sim))[0].decode(), (await exchange(sim))[0].decode()
    value = next(line for line in dated.splitlines() if line.startswith("Retry-After")).partition(": ")[2]
    now = next(line for line in dated.splitlines() if line.startswith("Date")).partition(": ")[2]
    assert 28 <= (parsedate_to_datetime(value) - parsedate_to_datetime(now)).total_seconds() <= 32
    assert "retry-after" not in bare.lower()


ODD: dict[str, bytes] = {
    "not_json": b"<html>",
    "empty": b"",
    "no_content": b"",
    "deep": b"[" * 10_000,
    "nan": b'{"success": true, "id": NaN',
}


@pytest.mark.parametrize("answer", ODD)
async def test_an_odd_answer_comes_whole(answer: str, sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer=answer)
    came, ended = await exchange(sim)
    assert (ended, status_of(came)) == ("eof", 204 if answer == "no_content" else 200)
    assert body_of(came).startswith(ODD[answer])
    assert (await sim.log())[0]["verdict"] == "accepted"


async def test_an_informational_answer_comes_before_the_true_one(sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="informational")
    came, _ = await exchange(sim)
    assert status_of(came) == 103
    assert status_of(body_of(came)) == 200
    assert json.loads(body_of(body_of(came)))["status"] == "accepted"


async def test_a_bomb_is_small_on_the_wire(sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="gzip_bomb")
    came, _ = await exchange(sim, seconds=15)
    assert b"gzip" in came.partition(b"\r\n\r\n")[0]
    packed = body_of(came)
    assert len(packed) < 1_000_000
    assert len(gzip.decompress(packed)) == 200_000_000


async def test_an_id_may_be_used_twice(sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="reused_id", skip=1)
    ids = [json.loads(body_of((await exchange(sim, reference=str(n)))[0]))["id"] for n in range(3)]
    assert ids[0] == ids[1] != ids[2]


async def test_a_fault_picks_its_requests(sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="status", suffix="7", count=0)
    await sim.fault(provider="keyed", answer="status", status=502, skip=1, count=2)
    came = [status_of((await exchange(sim, to=to, reference=f"r{n}"))[0]) for n, to in enumerate("7123456")]
    assert came == [500, 200, 502, 502, 200, 200, 200]
    assert status_of((await exchange(sim, to="17", reference="z"))[0]) == 500
    faults = await sim.control("GET", "/faults")
    assert [(one["hits"], one["matched"]) for one in faults] == [(2, 2), (2, 6)]
    await sim.control("DELETE", f"/faults/{faults[0]['id']}")
    assert status_of((await exchange(sim, to="17", reference="z"))[0]) == 200


async def test_a_share_of_requests_is_struck_the_same_in_every_run(sim: Simulator) -> None:
    runs: list[list[int]] = []
    for _ in range(2):
        await sim.reset(settings=True)
        await sim.fault(provider="keyed", answer="status", share=0.3, count=0)
        runs.append([status_of((await exchange(sim, reference=f"r{n}"))[0]) for n in range(40)])
    assert runs[0] == runs[1]
    assert 4 < runs[0].count(500) < 22


META_ERRORS = {190: 401, 131056: 429, 130429: 429, 368: 403, 131000: 500, 131047: 400}


@pytest.mark.parametrize("code", META_ERRORS)
async def test_meta_says_its_code(code: int, sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.fault(provider="meta", answer="error", code=code, message="No")
    message = {"messaging_product": "whatsapp", "to": "60123456789", "type": "text", "text": {"body": "x"}}
    async with http.post(
        f"{sim.url}/v23.0/1/messages", json=message, headers={"Authorization": "Bearer t"}
    ) as got:
        answer = await got.json()
    assert (got.status, answer["error"]["code"]) == (META_ERRORS[code], code)


async def test_wsapme_says_its_text_under_200_and_polls_fail_too(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await sim.fault(provider="wsapme", answer="error", message="Account expired")
    await sim.fault(provider="wsapme", answer="status", status=503, operation="status")
    token = {"x-wsapme-token": "t"}
    body = {"device": "d", "to": "60123456789", "message": "x"}
    answers: list[tuple[int, Any]] = []
    for path, asked in (("sendMessage2", body), ("getMessageStatus", {"device": "d", "messageId": "x"})):
        async with http.post(f"{sim.url}/v1/{path}", json=asked, headers=token) as got:
            answers.append((got.status, await got.json()))
    assert answers[0] == (200, {"success": False, "message": "Account expired"})
    assert answers[1][0] == 503
