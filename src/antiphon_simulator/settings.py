"""What may be set from outside: how each provider behaves, its accounts, its templates, the faults in wait.

All of it is JSON at the control API and in the file given to `--scenario`; an unknown field is refused by name.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

ProviderName = Literal["wsapme", "meta", "smtp", "keyed"]
PROVIDERS: tuple[ProviderName, ...] = ("wsapme", "meta", "smtp", "keyed")


class Delay(Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds: never under `least`, `mean` on the whole (exponential above `least`), never over `most`."""

    least: float = 0.0
    mean: float = 0.0
    most: float = 3600.0


class Behavior(Struct, frozen=True, forbid_unknown_fields=True):
    """How a provider treats one account's messages. Shares are between 0 and 1."""

    rate: float = 0.0  # messages a second that an account may hand over; 0: no limit
    burst: int = 0  # how many at once; 0: one second's worth
    retry_after: str = "1"  # the header on a throttled answer; "": none
    latency: Delay = Delay()  # before each answer
    absent: float = 0.0  # share of addresses that the provider does not know
    absent_suffixes: tuple[str, ...] = ()  # and addresses that end like this
    failed: float = 0.0  # share of the accepted that fail afterwards
    delivered: float = 1.0  # share of the accepted that are delivered
    read: float = 0.0  # share of the delivered that are read
    replied: float = 0.0  # share of the read that are replied to
    sent_after: Delay = Delay(mean=0.02, most=0.2)  # after the hand-over
    failed_after: Delay = Delay(mean=0.1, most=1.0)  # after the hand-over
    delivered_after: Delay = Delay(mean=0.05, most=0.5)  # after sent
    read_after: Delay = Delay(mean=0.05, most=0.5)  # after delivered
    replied_after: Delay = Delay(mean=0.05, most=0.5)  # after read
    replies: tuple[str, ...] = ("Thank you", "OK", "Terima kasih", "STOP")  # taken in turn
    quoted: float = 0.0  # share of the replies that name the message which they answer
    statuses: Literal["webhook", "poll", "half", "none"] = "webhook"  # `half`: the other half only by asking
    skip_delivered: float = 0.0  # share of the read whose `delivered` is never told
    duplicates: float = 0.0  # share of webhooks that are sent twice
    disorder: float = 0.0  # share of webhooks that are held back, so that later ones overtake them
    disorder_by: Delay = Delay(least=0.2, mean=0.5, most=2.0)
    batch: int = 1  # Meta: so many events in one webhook
    batch_wait: float = 0.05  # Meta: or what came within so many seconds
    webhook_retries: int = 5  # after an answer that is not 2xx
    webhook_retry_delay: float = 0.2  # doubled each time
    service_window: bool = (
        False  # Meta: free text fails (131047) unless the person wrote in the last 24 hours
    )


class SmtpServer(Struct, frozen=True, forbid_unknown_fields=True):
    """What the mail server demands. No users: it offers no AUTH."""

    tls: Literal["off", "offered", "required"] = "offered"
    users: dict[str, str] = {}
    size_limit: int = 10_000_000
    certificate: Literal["valid", "expired", "wrong_host"] = "valid"


class Fast(Struct, frozen=True, forbid_unknown_fields=True):
    """The bare path of the benchmarks: how many seconds until each answer."""

    latency: float = 0.0


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole day's behavior. `accounts` changes fields for one account, by the name `provider/account`."""

    seed: int = 1
    wsapme: Behavior = Behavior(webhook_retries=3)
    meta: Behavior = Behavior()
    smtp: Behavior = Behavior(retry_after="")
    keyed: Behavior = Behavior()
    accounts: dict[str, dict[str, Any]] = {}
    smtp_server: SmtpServer = SmtpServer()
    fast: Fast = Fast()


class Account(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody's account at a provider: what it must show us, and where its webhooks go.

    `name` is WSAPME's device, Meta's phone number id, any word for keyed; `*` stands for every name that has no
    account of its own.
    """

    provider: ProviderName
    name: str = "*"
    token: str = ""  # what the caller must present; "": any, but something
    url: str = ""  # where webhooks go; "": nowhere
    secret: str = ""  # Meta's app secret, the keyed provider's signing secret
    verify_token: str = ""  # Meta's handshake
    encoding: Literal["json", "form", "form_json"] = "json"  # WSAPME's webhooks
    connected: bool = True  # WSAPME: the phone is on
    number: str = "60300000000"  # the number that people see
    business: str = "1029384756"  # Meta's WhatsApp business account id
    user_ids: bool = True  # Meta: webhooks name people by their business-scoped id too


class Template(Struct, frozen=True, forbid_unknown_fields=True):
    """A template that Meta approved: how many parameters each place takes, or their names."""

    name: str
    language: str = "en_US"
    category: Literal["marketing", "utility", "authentication"] = "marketing"
    body: int | tuple[str, ...] = 0
    header: Literal["none", "text", "image", "video", "document"] = "none"
    header_parameters: int | tuple[str, ...] = 0
    buttons: tuple[
        Literal["quick_reply", "url", "copy_code"], ...
    ] = ()  # those that take a parameter, by index
    status: Literal["approved", "paused", "disabled"] = "approved"


FaultAnswer = Literal[
    "status",  # the HTTP status named in `status`, with `retry_after` and `body`
    "error",  # the provider's own error, named in `code` and `message`
    "reply",  # SMTP: the line in `reply`
    "reset",  # RST
    "close",  # FIN
    "hang",  # nothing for `seconds`
    "half",  # half of the answer, then FIN
    "half_hang",  # half of the answer, then nothing for `seconds`
    "garbage",  # bytes that are not HTTP
    "not_json",  # 200 with a body that is not JSON
    "empty",  # 200 with an empty body
    "no_content",  # 204
    "informational",  # 103 first, then the answer
    "redirect",  # 307 to the same place
    "drip",  # the answer, one byte every `seconds`
    "wrong_length",  # a Content-Length of more than there is
    "endless_headers",
    "endless_body",
    "gzip_bomb",  # 200 MB of zeros in 200 kB
    "deep",  # 200 with 10,000 nested arrays
    "nan",  # 200 with a NaN in the JSON
    "reused_id",  # the answer names the id of an earlier message
]
REFUSING: frozenset[FaultAnswer] = frozenset({"status", "error", "reply", "redirect"})


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that goes wrong for the requests that match, after the first `skip` and for the next `count`."""

    provider: ProviderName
    answer: FaultAnswer
    operation: Literal["send", "status", "lookup", "any"] = "send"
    account: str = ""  # "": any
    suffix: str = ""  # the recipient ends like this; "": any
    text: str = ""  # the text contains this; "": any
    skip: int = 0
    count: int = 1  # 0: for ever
    share: float = 1.0
    accept: bool | None = None  # was it taken all the same? None: as is natural for `answer`
    status: int = 500
    retry_after: str | None = None  # the header's text, or `date:SECONDS` for an HTTP date so far ahead
    body: str | None = None
    code: int | str = 0
    message: str = ""
    seconds: float = 3600.0
    at: Literal["connect", "ehlo", "auth", "mail", "rcpt", "data", "final"] = "final"  # SMTP: at which step
    reply: str = ""

    @property
    def accepts(self) -> bool:
        """Whether the provider took the message although its answer went wrong."""
        return self.answer not in REFUSING if self.accept is None else self.accept


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything at once, as a file."""

    scenario: Scenario = Scenario()
    accounts: tuple[Account, ...] = ()
    templates: tuple[Template, ...] = ()
    faults: tuple[Fault, ...] = ()


def merged(scenario: Scenario, patch: dict[str, Any]) -> Scenario:
    """The scenario with `patch` laid over it, field by field; raises `msgspec.ValidationError` naming a bad field."""
    return msgspec.convert(_overlay(msgspec.to_builtins(scenario), patch), Scenario)


def _overlay(below: Any, above: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _overlay(result[key], cast("dict[str, Any]", value))
        else:
            result[key] = value
    return result


def behavior_of(scenario: Scenario, provider: ProviderName, account: str) -> Behavior:
    """How `provider` treats this account: its general behavior with the account's own fields over it."""
    general: Behavior = getattr(scenario, provider)
    own = scenario.accounts.get(f"{provider}/{account}")
    if not own:
        return general
    return msgspec.convert(_overlay(msgspec.to_builtins(general), own), Behavior)


def checked(scenario: Scenario) -> Scenario:
    """The same scenario, once each account's own fields were seen to be fields of a behavior."""
    for name in scenario.accounts:
        provider, _, account = name.partition("/")
        if provider not in PROVIDERS or not account:
            raise msgspec.ValidationError(
                f"accounts: {name!r} is not provider/account, such as wsapme/device-1"
            )
        behavior_of(scenario, provider, account)
    return scenario
