"""The first walk: launch, expand, claim, render, provider, record, funnel."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.core.roles import DatabaseUrls
from tests.flows.whole import DEVICE, running_whole

PEOPLE = 40


@pytest.mark.timeout(120)
async def test_everybody_gets_one_message_at_the_sender_s_pace_and_the_funnel_says_so(
    db_urls: DatabaseUrls, tmp_path: Path
) -> None:
    scenario = {"absent_suffixes": ["00007"], "read": 0.5, "statuses": "half"}
    async with running_whole(db_urls, tmp_path, scenario) as whole:
        await whole.sender(rate=20)
        group_id, people = await whole.guests(PEOPLE)
        refuser = {"channel": "whatsapp", "is_given": False}
        await whole.post(f"/contacts/{people[3]['id']}/consents", refuser)
        await whole.post(
            "/templates",
            {"name": "Invite", "channel": "whatsapp", "text": "Hello {{firstName}}, on {{day}}?",
             "variables": {"day": {"sample": "Friday"}}},
        )  # fmt: skip
        blast = await whole.blast(group_id, template="Invite", variables={"day": "Saturday"})
        assert blast["status"] == "active"

        done = await whole.until(f"/blasts/{blast['id']}", lambda found: found["status"] == "completed")
        assert done["planned"] == PEOPLE
        await whole.simulator.settled()
        truth = (await whole.simulator.summary())["statuses"]["wsapme"]
        funnel = await whole.until(
            f"/blasts/{blast['id']}/funnel",
            lambda found: [rung["reached"] for rung in found["stages"]][1:3] == [PEOPLE - 2, truth["read"]],
        )

        assert (funnel["recipients"], funnel["skipped"], funnel["failed"]) == (PEOPLE, 1, 1)
        assert [why["reason"] for why in funnel["reasons"]["skipped"]] == ["no_consent"]
        sends = await whole.simulator.log(operation="send", verdict="accepted")
        assert {send["account"] for send in sends} == {DEVICE}
        assert len({send["recipient"] for send in sends}) == len(sends) == PEOPLE - 2
        texts = {send["recipient"]: send["text"] for send in sends}
        assert texts["601100000012"] == "Hello Guest12, on Saturday?"
        assert busiest_second([send["at"] for send in sends]) <= 21


def busiest_second(times: list[float]) -> int:
    """Most messages in any window of one second."""
    times = sorted(times)
    return max(sum(start <= at < start + 1 for at in times) for start in times)
