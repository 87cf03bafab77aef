"""Where a variable may stand in HTML. Escaping protects text and quoted attributes, and nothing else: so nowhere
else may a variable stand.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"(?P<value>\{\{.*?\}\})|\{%-?\s*(?P<word>\w+).*?%\}|\{#.*?#\}|(?P<comment><!--)|(?P<raw><(?:script|style)\b)"
    r"|(?P<open><(?:[a-zA-Z/!?]|(?=\{[{%#])))",
    re.DOTALL | re.IGNORECASE,
)
_INSIDE = re.compile(
    r"(?P<value>\{\{.*?\}\})|\{%-?\s*(?P<word>\w+).*?%\}|\{#.*?#\}|(?P<quote>[\"'])|(?P<close>>)", re.DOTALL
)
_NAMED = re.compile(r"([a-zA-Z:_-]+)\s*=\s*\Z")
_IS_URL = re.compile(r"\|\s*url\s*-?\}\}\Z")
_LINK = frozenset(
    {"href", "src", "action", "formaction", "background", "poster", "cite", "data", "xlink:href"}
)
_SCHEME = re.compile(r"\s*(https?://|mailto:|tel:|sms:|/|#|\?|cid:)", re.IGNORECASE)


def wrong_places(html: str) -> list[str]:
    """What is wrong with where the variables stand: a line, the place, the remedy. Empty if nothing is."""
    return [f"line {html.count(chr(10), 0, at) + 1}: {why}" for at, why in _Walk(html).wrong]


class _Walk:
    """One pass over the HTML: text, then tags, their attributes, and what is not HTML at all."""

    def __init__(self, html: str) -> None:
        self.html = html
        self.wrong: list[tuple[int, str]] = []
        self.blocks: list[str] = []  # where each open {% if %} or {% for %} began: in text, a tag, a quote
        at = 0
        while (found := _TOKEN.search(html, at)) is not None:
            match found.lastgroup:
                case "comment":
                    at = self.skip(found.start(), re.compile("-->"), "a comment")
                case "raw":
                    at = self.tag(found.end())
                    at = self.skip(at, re.compile(f"</{found[0][1:]}", re.IGNORECASE), f"{found[0].lower()}>")
                case "open":
                    at = self.tag(found.end())
                case _:
                    self.block(found, "text")
                    at = found.end()

    def block(self, found: re.Match[str], place: str) -> None:
        """Every branch must begin and end in the same place, else what is text in one is a tag in another."""
        word = found["word"]
        if word in ("if", "for"):
            self.blocks.append(place)
        elif word is not None and (not self.blocks or self.blocks[-1] != place):
            self.wrong.append(
                (
                    found.start(),
                    f"{{% {word} %}} splits a tag or an attribute; put whole ones into each branch",
                )
            )
        if word in ("endif", "endfor") and self.blocks:
            self.blocks.pop()

    def skip(self, at: int, end: re.Pattern[str], place: str) -> int:
        closed = end.search(self.html, at)
        until = closed.end() if closed else len(self.html)
        for found in _TOKEN.finditer(self.html, at, until):
            if found.lastgroup == "value":
                why = f"a variable stands in {place}, where it cannot be escaped; put it into the text"
                self.wrong.append((found.start(), why))
            self.block(found, place)
        return until

    def tag(self, at: int) -> int:
        """Walk to the end of a tag whose < is behind us."""
        quote, opened = "", 0
        while (found := _INSIDE.search(self.html, at)) is not None:
            at = found.end()
            match found.lastgroup:
                case "quote" if not quote:
                    quote, opened = found[0], found.start()
                case "quote" if found[0] == quote:
                    quote = ""
                case "close" if not quote:
                    return at
                case "value":
                    self.value(found, quote, opened)
                case _:
                    self.block(found, f"tag {quote}")
        return len(self.html)

    def value(self, found: re.Match[str], quote: str, opened: int) -> None:
        at = found.start()
        if not quote:
            why = 'a variable in a tag must stand in quotes, as in <a title="{{ eventName }}">'
            self.wrong.append((at, why))
            return
        named = _NAMED.search(self.html, max(0, opened - 80), opened)
        name = named[1].lower() if named else ""
        if name.startswith("on") or name in ("style", "srcdoc", "srcset"):
            why = f"a variable cannot stand in {name}=…, where it could run or restyle; remove it"
            self.wrong.append((at, why))
        elif name in _LINK and not _SCHEME.match(self.html[opened + 1 : at]) and not _IS_URL.search(found[0]):
            why = f'{name} begins with a variable, which could be any kind of link; write {name}="{{{{ link|url }}}}"'
            self.wrong.append(
                (at, f'{why} or begin with https://, as in "https://example.com/{{{{ bookingRef }}}}"')
            )
