"""Templates in the database: names, versions, languages, copies, own text."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from antiphon.core import db, ids
from antiphon.core.channel import Channel
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.organizations.model import Actor
from antiphon.templates import service
from antiphon.templates.model import (
    Approved,
    NewTemplate,
    NewVersion,
    TemplateChanges,
    TemplateDetail,
    Variable,
)
from tests import make


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make.actor(org_id)


async def reminder(conn: Connection, actor: Actor, **more: Any) -> TemplateDetail:
    given: dict[str, Any] = {"name": "7 Tage Vorfreude", "channel": "whatsapp", "language": "de"}
    given["text"] = "Hallo {{ firstName }}"
    return await service.create(conn, actor, NewTemplate(**(given | more)))


async def told(conn: Connection, org_id: UUID) -> list[str]:
    found = await db.tuples(
        conn, "SELECT name FROM events_new WHERE org_id = %(org_id)s ORDER BY id", org_id=org_id
    )
    return [name for (name,) in found]


async def actions(conn: Connection, org_id: UUID) -> list[str]:
    found = await db.tuples(
        conn, "SELECT action FROM audit_log WHERE org_id = %(org_id)s ORDER BY id", org_id=org_id
    )
    return [action for (action,) in found]


async def test_a_template_is_stored_told_and_audited(conn: Connection, actor: Actor, org_id: UUID) -> None:
    made = await reminder(conn, actor, variables={"tier": Variable("gold", default="basic")})
    found = await service.get(conn, actor, made.id)
    assert found == made
    assert (found.languages, found.default_language) == (["de"], "de")
    assert found.versions[0].variables == {"tier": Variable("gold", default="basic")}
    assert found.versions[0].created_by == actor.label
    assert await told(conn, org_id) == ["template_created"]
    assert await actions(conn, org_id) == ["template.created"]


async def test_an_approved_template_comes_back_as_it_went(conn: Connection, actor: Actor) -> None:
    approved = Approved(name="haff", language="de", body=["{{ firstName }}"], buttons=["{{ bookingRef }}"])
    made = await reminder(conn, actor, text=None, approved=approved)
    assert (await service.get(conn, actor, made.id)).versions[0].approved == approved


async def test_a_refused_template_leaves_nothing(conn: Connection, actor: Actor, org_id: UUID) -> None:
    with pytest.raises(Invalid):
        await reminder(conn, actor, text="{{ nobody }}")
    assert (await service.list_templates(conn, actor)).items == []
    assert await told(conn, org_id) == []


@pytest.mark.parametrize("name", ["7 Tage Vorfreude", "7 TAGE vorfreude", "  7  Tage   Vorfreude "])
async def test_a_name_is_taken_in_every_spelling(conn: Connection, actor: Actor, name: str) -> None:
    made = await reminder(conn, actor)
    with pytest.raises(Conflict) as taken:
        await reminder(conn, actor, name=name)
    assert taken.value.code == "template_name_taken"
    await service.delete(conn, actor, made.id)
    assert (await reminder(conn, actor, name=name)).id != made.id


@pytest.mark.parametrize(
    "more", [{"name": "  "}, {"name": "a\x07b"}, {"text": "a\0b"}, {"description": "a\0"}]
)
async def test_what_cannot_be_stored_is_refused_first(
    conn: Connection, actor: Actor, more: dict[str, str]
) -> None:
    with pytest.raises(Invalid) as refused:
        await reminder(conn, actor, **more)
    assert [error.field for error in refused.value.errors] == list(more)


async def test_versions_count_by_language_and_the_newest_is_used(
    conn: Connection, actor: Actor, org_id: UUID
) -> None:
    made = await reminder(conn, actor)
    first = made.versions[0]
    second = await service.add_version(conn, actor, made.id, NewVersion(text="Moin {{ firstName }}"))
    english = await service.add_version(
        conn, actor, made.id, NewVersion(text="Hi {{ firstName }}", language="EN")
    )
    assert [(v.language, v.version) for v in (first, second, english)] == [("de", 1), ("de", 2), ("en", 1)]
    used = {
        language: (await service.active_version(conn, org_id, made.id, language)).id
        for language in ("de", "de-AT", "en_GB", "fr", None, "?")
    }
    assert used == {
        "de": second.id,
        "de-AT": second.id,
        "en_GB": english.id,
        "fr": second.id,
        None: second.id,
        "?": second.id,
    }
    assert list(await service.active_versions(conn, org_id, made.id)) == ["de", "en"]
    assert (await service.get_version(conn, org_id, first.id)).text == "Hallo {{ firstName }}"
    page = await service.list_versions(conn, actor, made.id, limit=2)
    assert [v.id for v in page.items] == [english.id, second.id]
    rest = await service.list_versions(conn, actor, made.id, limit=2, cursor=page.next)
    assert ([v.id for v in rest.items], rest.next) == ([first.id], None)
    assert await told(conn, org_id) == ["template_created", "template_updated", "template_updated"]


async def test_only_an_active_template_can_be_used(conn: Connection, actor: Actor, org_id: UUID) -> None:
    made = await reminder(conn, actor)
    version = made.versions[0]
    archived = await service.update(conn, actor, made.id, TemplateChanges(status="archived"))
    assert archived.status == "archived"
    for use in (service.active_version(conn, org_id, made.id), service.usable(conn, org_id, made.name)):
        with pytest.raises(Conflict) as refused:
            await use
        assert refused.value.code == "template_not_active"
    await service.delete(conn, actor, made.id)
    with pytest.raises(NotFound):
        await service.active_version(conn, org_id, made.id)
    assert (await service.get_version(conn, org_id, version.id)).id == version.id


async def test_changes_touch_only_what_is_given(conn: Connection, actor: Actor) -> None:
    made = await reminder(conn, actor, description="x")
    assert TemplateChanges().description is UNSET
    changed = await service.update(conn, actor, made.id, TemplateChanges(name="Vorfreude"))
    assert (changed.name, changed.description, changed.status) == ("Vorfreude", "x", "active")
    emptied = await service.update(conn, actor, made.id, TemplateChanges(description=None))
    assert emptied.description is None
    with pytest.raises(Invalid) as refused:
        await service.update(conn, actor, made.id, TemplateChanges(default_language="fr"))
    assert "Add one first" in refused.value.detail
    await reminder(conn, actor, name="Other")
    with pytest.raises(Conflict):
        await service.update(conn, actor, made.id, TemplateChanges(name="OTHER"))


async def test_a_copy_is_a_draft_with_the_newest_versions(conn: Connection, actor: Actor) -> None:
    made = await reminder(conn, actor)
    await service.add_version(conn, actor, made.id, NewVersion(text="Moin", language="de"))
    await service.add_version(conn, actor, made.id, NewVersion(text="Hi", language="en"))
    copy = await service.clone(conn, actor, made.id)
    again = await service.clone(conn, actor, made.id)
    assert (copy.name, again.name) == ("7 Tage Vorfreude (copy)", "7 Tage Vorfreude (copy 2)")
    assert (copy.status, [(v.language, v.version, v.text) for v in copy.versions]) == (
        "draft",
        [("de", 1, "Moin"), ("en", 1, "Hi")],
    )
    assert await service.get(conn, actor, copy.id) == copy


async def test_a_list_is_filtered_and_paged(conn: Connection, actor: Actor) -> None:
    for number in range(5):
        await reminder(
            conn, actor, name=f"Text {number}", channel="sms" if number % 2 else "whatsapp", text="x"
        )
    await reminder(conn, actor, name="Draft", status="draft", text="x")
    page = await service.list_templates(conn, actor, search="tEXT", limit=3)
    assert [t.name for t in page.items] == ["Text 4", "Text 3", "Text 2"]
    rest = await service.list_templates(conn, actor, search="text", limit=3, cursor=page.next)
    assert ([t.name for t in rest.items], rest.next) == (["Text 1", "Text 0"], None)
    assert [t.name for t in (await service.list_templates(conn, actor, channel="sms")).items] == [
        "Text 3",
        "Text 1",
    ]
    assert [t.name for t in (await service.list_templates(conn, actor, status="draft")).items] == ["Draft"]
    assert (await service.list_templates(conn, actor, search="%")).items == []


async def test_without_a_language_it_is_the_organizations(conn: Connection, actor: Actor) -> None:
    made = await service.create(conn, actor, NewTemplate(name="x", channel="sms", text="x"))
    assert (made.default_language, made.versions[0].language) == ("en", "en")


async def test_own_text_is_a_version_without_a_name(conn: Connection, actor: Actor, org_id: UUID) -> None:
    version = await service.own_text(conn, actor, Channel.SMS, "Hallo {{ firstName }}", language="de")
    assert (version.template_id, version.version) == (None, 1)
    assert await service.get_version(conn, org_id, version.id) == version
    with pytest.raises(Invalid):
        await service.own_text(conn, actor, Channel.SMS, "{{ nobody }}")


async def test_another_organizations_template_does_not_exist(conn: Connection, actor: Actor) -> None:
    made = await reminder(conn, actor)
    stranger = make.actor(ids.new_id())
    for attempt in (
        service.get(conn, stranger, made.id),
        service.update(conn, stranger, made.id, TemplateChanges(name="x")),
        service.add_version(conn, stranger, made.id, NewVersion(text="x")),
        service.delete(conn, stranger, made.id),
        service.clone(conn, stranger, made.id),
        service.list_versions(conn, stranger, made.id),
        service.get_version(conn, stranger.org_id, made.versions[0].id),
        service.active_version(conn, stranger.org_id, made.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await service.find_version(conn, stranger.org_id, made.versions[0].id) is None
