"""Which column of a file is which field of a contact: by its name in several languages, or as somebody says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from antiphon.contacts.model import fold
from antiphon.core.channel import AddressKind, Channel
from antiphon.core.errors import FieldError, Invalid

ADDRESS_FIELDS = tuple(str(kind) for kind in AddressKind if kind is not AddressKind.URL)
CONSENT_FIELDS = ("consent", *(f"consent_{channel}" for channel in Channel if channel is not Channel.HTTP))
TEXT_FIELDS = (
    "first_name", "last_name", "name", "company", "language", "timezone", "country", "preferred_channel",
    "tags", "text",
)  # fmt: skip
SKIP = "-"
FIELDS = (*ADDRESS_FIELDS, *TEXT_FIELDS, *CONSENT_FIELDS)

_NAMES: dict[str, str] = {
    "phone": """
        phone, phone number, phonenumber, telephone, telephone number, tel, tel no, tel nr, no tel, telefon,
        telefonnummer, telefonnr, telefon nr, telefono, telefone, numero de telefono, numero de telephone, numero,
        mobile, mobile number, mobile no, mobile phone, mobil, mobilnummer, mobiltelefon, mobiltelefonnummer, handy,
        handynummer, handy nr, handphone, handphone number, hp, no hp, nomor hp, nomor telepon, no telepon, telepon,
        no telefon, nombor telefon, telefon bimbit, cell, cell phone, cellphone, cell number, celular, movil, cellulare,
        portable, gsm, msisdn, whatsapp, whatsapp number, whatsapp no, whatsappnummer, wa, no wa, nomor wa,
        nomor whatsapp, number, nummer, nomor, primary phone, home phone, work phone, business phone, phone 1 value,
        phone 2 value, contact number, contact no, e164, 电话, 手机, 手机号, 手机号码, 電話, 電話番号
    """,
    "email": """
        email, e mail, mail, email address, e mail address, emailaddress, e mail adresse, emailadresse, mailadresse,
        correo, correo electronico, courriel, adresse email, adresse e mail, posta elettronica, emel, alamat email,
        alamat emel, surel, e mailadres, e mail 1 value, email 1 value, e mail 2 value, 邮箱, 电子邮件, メール
    """,
    "first_name": """
        first name, firstname, given name, givenname, forename, vorname, prenom, nama depan, primer nombre,
        primeiro nome, voornaam, nome proprio, fname, 名
    """,
    "last_name": """
        last name, lastname, surname, family name, familyname, nachname, familienname, zuname, nom, nom de famille,
        apellido, apellidos, cognome, sobrenome, nama belakang, nama keluarga, achternaam, lname, 姓
    """,
    "name": """
        name, full name, fullname, contact name, display name, nama, nama lengkap, nama penuh, nome, nome completo,
        nombre, nombre completo, nom complet, vollstandiger name, naam, contact, customer, customer name, client name,
        kunde, kundenname, guest, guest name, gast, kontakt, 姓名, 名前
    """,
    "company": """
        company, company name, organization, organisation, organization name, firma, firmenname, unternehmen, empresa,
        societe, entreprise, azienda, ditta, perusahaan, nama perusahaan, syarikat, bedrijf, 公司, 会社
    """,
    "language": "language, lang, sprache, idioma, langue, lingua, bahasa, taal, locale, preferred language, 语言",
    "timezone": "timezone, time zone, tz, zeitzone, zona horaria, fuseau horaire, zona waktu",
    "country": "country, country code, land, landercode, pais, pays, paese, negara, 国家",
    "preferred_channel": "preferred channel, channel preference, bevorzugter kanal",
    "tags": "tags, tag, labels, label, kategorien, categories, etiquetas, schlagworte",
    "text": "text, message, message text, nachricht, nachrichtentext, mensaje, mensagem, pesan, isi pesan, bericht",
    "whatsapp_id": "whatsapp id, wa id, waid",
    "consent": """
        consent, opt in, optin, marketing consent, marketing opt in, gdpr consent, dsgvo einwilligung, einwilligung,
        consentimiento, consentement, consenso, persetujuan, newsletter, subscribed, permission
    """,
    "consent_sms": "sms opt in, sms optin, sms consent, sms einwilligung",
    "consent_whatsapp": "whatsapp opt in, whatsapp optin, whatsapp consent, whatsapp einwilligung",
    "consent_email": "email opt in, e mail opt in, email consent, e mail einwilligung, email subscribed",
}
BY_NAME: Mapping[str, str] = MappingProxyType(
    {name.strip(): field for field, names in _NAMES.items() for name in names.split(",")}
)
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Mapped(Struct, frozen=True, kw_only=True):
    """What each column of a file is, in its order: a field, `attr:name`, or `-`. `unknown` were not recognized."""

    fields: list[str]
    unknown: list[str]


def key_of(header: str) -> str:
    """A column's name as names are compared: lower case, without accents and punctuation."""
    return " ".join(re.sub(r"[^\w]+|_", " ", fold(header)).split())


def attribute_of(header: str) -> str:
    """A column's name as the name of an attribute that a template can show: `Kunden-Nr.` is `kunden_nr`."""
    ascii_only = unicodedata.normalize("NFKD", key_of(header)).encode("ascii", "ignore").decode()
    name = "_".join(ascii_only.split())[:64].rstrip("_")
    return name if _ATTRIBUTE.fullmatch(name) else f"column_{name}"[:64].rstrip("_")


def map_columns(header: Sequence[str], said: Mapping[str, str], *, keep_unknown: bool) -> Mapped:
    """Which field each column is. What is said (`{"Nr.": "phone"}`) counts more than a column's name.

    Raises Invalid for a column or field that does not exist, for two columns of one field that has only one value, and
    when nothing is left to reach anybody by.
    """
    wanted = _check_said(header, said)
    fields: list[str] = []
    unknown: list[str] = []
    for name in header:
        field = wanted.get(name) or BY_NAME.get(key_of(name)) or ""
        if not field or (name not in wanted and field not in ADDRESS_FIELDS and field in fields):
            unknown.append(name)
            field = _free_attribute(attribute_of(name), fields) if keep_unknown else SKIP
        fields.append(field)
    if "name" in fields and "last_name" in fields and "first_name" not in fields:
        fields[fields.index("name")] = "first_name"
    twice = [
        field
        for field in set(fields)
        if field != SKIP and field not in ADDRESS_FIELDS and fields.count(field) > 1
    ]
    if twice:
        raise Invalid.field("map", f"two columns are {', '.join(sorted(twice))}; map one of them to -")
    if not any(field in ADDRESS_FIELDS for field in fields):
        raise Invalid(
            f"no column is a phone number or an email address: {', '.join(header)[:200]}; say which one is, "
            f"as in {header[0]}=phone",
            code="no_address_column",
        )
    return Mapped(fields=fields, unknown=unknown)


def _free_attribute(name: str, fields: Sequence[str]) -> str:
    """The attribute, numbered if another column has the name."""
    numbered = (f"attr:{name[:60]}_{n}" for n in range(2, len(fields) + 3))
    return next(field for field in (f"attr:{name}", *numbered) if field not in fields)


def _check_said(header: Sequence[str], said: Mapping[str, str]) -> dict[str, str]:
    by_key = {key_of(name): name for name in header}
    wanted: dict[str, str] = {}
    wrong: list[FieldError] = []
    for column, field in said.items():
        name = column if column in header else by_key.get(key_of(column))
        if name is None:
            wrong.append(
                FieldError("map", f"there is no such column; there are {', '.join(header)[:300]}", column)
            )
        elif field not in FIELDS and field != SKIP and not _is_attribute(field):
            wrong.append(
                FieldError("map", f"is no field; use attr:name, - or one of {', '.join(FIELDS)}", field)
            )
        else:
            wanted[name] = field
    if wrong:
        raise Invalid("the columns cannot be mapped so; `errors` says why", wrong)
    return wanted


def _is_attribute(field: str) -> bool:
    return field.startswith("attr:") and _ATTRIBUTE.fullmatch(field[5:]) is not None
