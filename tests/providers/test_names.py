"""Names that providers give: kept as they are, or by their hash when longer than any provider's."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from antiphon.core.wire import MailEnvelope, MailReply, MaybeSent, NotBegun, NotSent, Request, Response
from antiphon.providers import contract
from antiphon.providers.contract import LONGEST_NAME, Accepted, WireRequest, WireResponse, bounded_name
from antiphon.providers.drive import drive


class Wire:
    """Answers every request, or fails as told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    async def send(self, request: Request) -> Response:
        if self.failure is not None:
            raise self.failure
        return Response(200)


class NoMail:
    async def send(self, envelope: MailEnvelope) -> MailReply:
        raise NotSent("no mail here")


def accepted_as(name: str) -> Generator[WireRequest, WireResponse, contract.Outcome]:
    yield Request(url="http://provider.example/")
    return Accepted(provider_message_id=name)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("wamid.1", "wamid.1"),
        ("x" * LONGEST_NAME, "x" * LONGEST_NAME),
        ("x" * 10_000, bounded_name("x" * 10_000)),
    ],
    ids=["short", "as long as may be", "longer"],
)
async def test_a_name_is_kept(name: str, kept: str) -> None:
    outcome = await drive(accepted_as(name), Wire(), NoMail())
    assert outcome == Accepted(provider_message_id=kept)
    assert len(kept) <= LONGEST_NAME


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (NotBegun("late"), contract.NotSent(reason="late", code=contract.NOT_BEGUN)),
        (NotSent("refused"), contract.NotSent(reason="refused")),
        (MaybeSent("reset"), contract.Unknown(reason="reset")),
    ],
    ids=["there was no time to begin", "nothing left", "it may have left"],
)
async def test_a_failure_of_the_wire_says_how_far_it_got(
    failure: Exception, outcome: contract.Outcome
) -> None:
    assert await drive(accepted_as("x"), Wire(failure), NoMail()) == outcome
