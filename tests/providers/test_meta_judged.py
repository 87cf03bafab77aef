"""pywa, an independent client of the WhatsApp wire, as the judge of ours: signatures, webhooks, requests."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportArgumentType=false

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pywa import utils
from pywa.client import WhatsApp
from pywa.types.message import Message
from pywa.types.message_status import MessageStatus
from pywa.types.templates import BodyText, HeaderImage, TemplateLanguage

from antiphon.providers import meta_whatsapp
from antiphon.providers.contract import ApprovedTemplate, Inbound, Receipt, TemplateParameter
from tests.providers.cases import (
    META_ACCOUNT,
    SECRET,
    answer,
    fixture,
    http_request,
    meta_signed,
    outbound,
    play,
)

JUDGE = WhatsApp(phone_id="5550001", token="t", filter_updates=False)

STATUSES = [
    "delivered",
    "failed_window",
    "failed_not_on_whatsapp",
    "failed_marketing_stopped",
    "failed_without_error",
    "status_of_hidden_number",
]
MESSAGES = [
    "text",
    "text_reply",
    "image",
    "voice",
    "document",
    "sticker",
    "location",
    "contacts",
    "reaction",
    "button",
    "button_reply",
    "list_reply",
    "flow_reply",
    "order",
    "system_number_changed",
    "hidden_number",
]


@pytest.mark.parametrize("name", STATUSES)
def test_both_read_the_same_status(name: str) -> None:
    body = fixture(f"meta_whatsapp/{name}.json")
    (ours,) = meta_whatsapp.parse_webhook(META_ACCOUNT, {}, body)
    theirs = MessageStatus.from_update(JUDGE, json.loads(body))
    assert isinstance(ours, Receipt)
    assert (ours.provider_message_id, ours.status, ours.at, ours.reference, ours.sender_address) == (
        theirs.id,
        theirs.status.value,
        theirs.timestamp,
        theirs.tracker,
        theirs.metadata.phone_number_id,
    )
    code = getattr(theirs.error, "code", None) if theirs.error else None
    assert ours.code == (None if code is None else str(code))


@pytest.mark.parametrize("name", MESSAGES)
def test_both_read_the_same_message(name: str) -> None:
    body = fixture(f"meta_whatsapp/{name}.json")
    (ours,) = meta_whatsapp.parse_webhook(META_ACCOUNT, {}, body)
    theirs = Message.from_update(JUDGE, json.loads(body))
    assert isinstance(ours, Inbound)
    assert (ours.provider_message_id, ours.at, ours.profile_name) == (
        theirs.id,
        theirs.timestamp,
        theirs.from_user.name,
    )
    wa_id = theirs.from_user.wa_id
    assert ours.sender_address == (f"+{wa_id}" if wa_id else theirs.from_user.bsuid)
    if theirs.text or theirs.caption:
        assert ours.text == (theirs.text or theirs.caption)
    if theirs.reply_to_message is not None:
        assert ours.reply_to_provider_id == theirs.reply_to_message.id
    if theirs.media is not None:
        assert (ours.media[0].provider_media_id, ours.media[0].mime_type) == (
            theirs.media.id,
            theirs.media.mime_type,
        )


@pytest.mark.parametrize(
    "body", [fixture("meta_whatsapp/text_reply.json"), b"", b"\x00\xff", "ü".encode() * 500]
)
def test_both_agree_on_a_signature(body: bytes) -> None:
    headers = meta_signed(body)
    given = headers["x-hub-signature-256"]
    for signature in (given, given.replace("sha256=", "sha1="), given[:-1] + "g", given.upper()):
        ours = meta_whatsapp.verify_webhook(
            META_ACCOUNT, "POST", {"x-hub-signature-256": signature}, {}, body
        )
        assert ours is utils.webhook_updates_validator(SECRET, body, signature)


class Recorder:
    """Stands where Meta is, for the judge: keeps what it sends."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.paths: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        self.paths.append(request.url.path)
        return httpx.Response(200, content=fixture("meta_whatsapp/accepted.json"))


def judged() -> tuple[WhatsApp, Recorder]:
    recorder = Recorder()
    session = httpx.Client(transport=httpx.MockTransport(recorder))
    return WhatsApp(phone_id="5550001", token="t", session=session, api_version="23.0"), recorder


def ours(**changes: Any) -> Any:
    accepted = answer(200, fixture("meta_whatsapp/accepted.json"))
    asked, _ = play(meta_whatsapp.send(META_ACCOUNT, outbound(**changes)), accepted)
    return http_request(asked)


def test_both_ask_for_text_in_the_same_words() -> None:
    client, recorder = judged()
    sent = client.send_text(
        to="60111111111", text="Hello Aina", tracker=outbound().reference, reply_to_message_id="wamid.AAA"
    )
    request, body = ours(reply_to_provider_id="wamid.AAA")
    assert body == recorder.bodies[0]
    assert request.url.endswith(recorder.paths[0])
    assert sent.id == "wamid.HBgLNjAxMTExMTExMTE"


def test_both_ask_for_a_template_in_the_same_words() -> None:
    client, recorder = judged()
    client.send_template(
        to="60111111111",
        name="order_update",
        language=TemplateLanguage.ENGLISH_US,
        params=[
            HeaderImage.params(image="https://cdn.example.com/a.jpg"),
            BodyText.params("Aina", "A-1009"),
        ],
        tracker=outbound().reference,
    )
    template = ApprovedTemplate(
        name="order_update",
        language="en_US",
        header=(TemplateParameter(kind="image", value="https://cdn.example.com/a.jpg"),),
        body=(TemplateParameter(value="Aina"), TemplateParameter(value="A-1009")),
    )
    _, body = ours(template=template, text=None)

    def plain(value: Any) -> Any:
        """Meta reads component types in any case."""
        for component in value["template"]["components"]:
            component["type"] = component["type"].lower()
            for parameter in component["parameters"]:
                parameter["type"] = parameter["type"].lower()
        return value

    assert plain(body) == plain(recorder.bodies[0])
