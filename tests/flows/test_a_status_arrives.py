"""The second walk: a status webhook finds its message by the account's path, is kept raw, moves it once."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.core.roles import DatabaseUrls
from tests.flows.whole import running_whole

OFF = {"delivered": 0.0, "statuses": "none"}  # nothing but what the test itself tells


@pytest.mark.timeout(120)
async def test_a_status_moves_the_message_once_and_never_backwards(
    db_urls: DatabaseUrls, tmp_path: Path
) -> None:
    async with running_whole(db_urls, tmp_path, OFF) as whole:
        await whole.sender()
        sent = await whole.post("/messages", {"sender": "Shop", "to": "+60110000001", "text": "Hello"})
        path = f"/messages/{sent['ids'][0]}"
        message = await whole.until(path, lambda found: found["status"] == "sent")

        async def told(status: str, copies: int = 1) -> None:
            body = {"provider": "wsapme", "id": message["provider_message_id"], "status": status, "copies": copies,
                    "recipient": "+60110000001"}  # fmt: skip
            await whole.simulator.control("POST", "/status", body)
            await whole.simulator.settled()

        await told("read", copies=2)
        read = await whole.until(path, lambda found: found["status"] == "read")
        assert read["read_at"] is not None
        await told("delivered")
        late = await whole.until(path, lambda found: found["delivered_at"] is not None)
        assert late["status"] == "read"

        history = await whole.get(f"{path}/history")
        by_webhook = [event["kind"] for event in history["events"] if event["source"] == "webhook"]
        assert sorted(by_webhook) == ["delivered", "read"]
        story = await whole.get(f"{path}/explain")
        assert story["status"] == "read"
        assert any("read by webhook" in line["text"] for line in story["lines"])


@pytest.mark.timeout(120)
async def test_what_no_webhook_tells_is_asked_for(db_urls: DatabaseUrls, tmp_path: Path) -> None:
    async with running_whole(db_urls, tmp_path, {"read": 1.0, "statuses": "poll"}) as whole:
        await whole.sender()
        sent = await whole.post("/messages", {"sender": "Shop", "to": "+60110000002", "text": "Hello"})
        path = f"/messages/{sent['ids'][0]}"
        await whole.until(path, lambda found: found["status"] == "read")
        history = await whole.get(f"{path}/history")
        assert {event["source"] for event in history["events"] if event["kind"] == "read"} == {"polling"}
