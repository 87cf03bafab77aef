"""The third walk, as far as it goes today: reply, contact, message, replied_at; STOP suppresses from the first day."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.core.roles import DatabaseUrls
from tests.flows.whole import running_whole

QUIET = {"read": 0.0, "replied": 0.0}


@pytest.mark.timeout(120)
async def test_a_reply_answers_the_newest_message_and_stop_ends_it(
    db_urls: DatabaseUrls, tmp_path: Path
) -> None:
    async with running_whole(db_urls, tmp_path, QUIET) as whole:
        await whole.sender()
        group_id, people = await whole.guests(2)
        first = await whole.blast(group_id, text="Hello {{firstName}}")
        await whole.until(f"/blasts/{first['id']}", lambda found: found["status"] == "completed")

        await whole.simulator.inbound("wsapme", "+601100000000", "Boleh tahu harga?")
        await whole.simulator.inbound("wsapme", "+601100000001", "STOP")
        inbound = await whole.until("/messages?direction=in", lambda found: len(found["items"]) == 2)
        by_contact = {message["contact_id"]: message for message in inbound["items"]}
        assert set(by_contact) == {person["id"] for person in people}

        curious = by_contact[people[0]["id"]]
        assert (curious["status"], curious["text"]) == ("received", "Boleh tahu harga?")
        answered = await whole.get(f"/messages/{curious['reply_to_id']}")
        assert answered["campaign_id"] == first["id"]
        assert answered["replied_at"] is not None
        assert answered["stage"] == "replied"

        await whole.simulator.inbound("wsapme", "+601100000000", "And for two?")
        more = await whole.until("/messages?direction=in", lambda found: len(found["items"]) == 3)
        again = await whole.get(f"/messages/{curious['reply_to_id']}")
        assert again["replied_at"] == answered["replied_at"]
        assert {
            message["reply_to_id"] for message in more["items"] if message["contact_id"] == people[0]["id"]
        } == {answered["id"]}

        suppressions = (await whole.get("/suppressions"))["items"]
        assert [one["address"] for one in suppressions] == ["+601100000001"]
        second = await whole.blast(group_id, text="Hello again {{firstName}}", follow_up_stage="Follow-up 1")
        await whole.until(f"/blasts/{second['id']}", lambda found: found["status"] == "completed")
        funnel = await whole.get(f"/blasts/{second['id']}/funnel")
        assert (funnel["recipients"], funnel["skipped"]) == (2, 1)
        assert funnel["reasons"]["skipped"] == [{"reason": "suppressed", "count": 1}]
        sends = await whole.simulator.log(operation="send", verdict="accepted")
        assert [send["recipient"] for send in sends if "again" in send["text"]] == ["601100000000"]
