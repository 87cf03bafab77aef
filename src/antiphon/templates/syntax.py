"""The language of templates: a small, closed part of what the engine could do.

    {{ firstName }}   {{ firstName|default("there") }}   {{ order.total|money("EUR") }}   {{ eventDate|date("short") }}
    {% if company %} … {% elif daysUntil < 3 %} … {% else %} … {% endif %}
    {% for item in items %} … {{ item.name }} … {% endfor %}

Nothing else is a template. `parse` reads a source by this grammar and writes it anew for the engine, so the engine
never sees a word that is not on this page. What comes out also says which variables are read and how much text the
template can make at most, whatever the variables hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from antiphon.templates.grammar import (
    ALSO_GIVEN,
    ESCAPED,
    FILTERS,
    FIRST_ARGUMENT,
    MAX_DEPTH,
    MAX_INNER_VALUE,
    MAX_ITEMS,
    MAX_OUTPUT,
    MAX_SOURCE,
    MAX_TAGS,
    MAX_VALUE,
    PREFIX,
    SHOWN,
    Argument,
    Fault,
    Parsed,
    Use,
    is_name,
)

_TAG = re.compile(r"\{\{(-?)(.*?)(-?)\}\}|\{%(-?)(.*?)(-?)%\}|\{#(.*?)#\}|(\{\{|\{%|\{#)", re.DOTALL)
_WORD = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>-?[0-9]{1,9}(?:\.[0-9]{1,6})?)"
    r"|(?P<text>\"[^\"\\\n{}%]{0,200}\"|'[^'\\\n{}%]{0,200}')|(?P<sign>==|!=|<=|>=|[<>|(),.])|(?P<other>\S))",
    re.ASCII,
)
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_LOOP_FIELDS = frozenset({"index", "first", "last", "length"})
_REMEDY = (
    "write {{ name }}, {{ name|filter }}, {% if name %}…{% endif %} or {% for item in list %}…{% endfor %}"
)


def parse(source: str, *, html: bool = False) -> Parsed:
    """Read a source. Raises Fault for whatever is not in the grammar, and for what could grow without bound."""
    if len(source) > MAX_SOURCE:
        raise Fault(
            1, f"{len(source):,} characters are too many; a part of a template has at most {MAX_SOURCE:,}"
        )
    parsed = _Parse(source, html)
    if parsed.worst > MAX_OUTPUT:
        raise Fault(
            1,
            f"with the longest values this could make {parsed.worst:,} characters; at most {MAX_OUTPUT:,} are "
            "allowed. Use fewer variables, above all inside {% for %}",
        )
    return Parsed(
        "".join(parsed.written),
        tuple(parsed.uses.values()),
        frozenset(parsed.bare),
        parsed.is_deep,
        parsed.worst,
        parsed.tags > 0,
    )


class _Block(NamedTuple):
    kind: str
    line: int
    local: str = ""
    has_else: bool = False


class _Parse:
    """One walk through a source: what is written for the engine, what is open, what was read."""

    def __init__(self, source: str, html: bool) -> None:
        self.source, self.growth = source, ESCAPED if html else 1
        self.written: list[str] = []
        self.uses: dict[str, Use] = {}
        self.bare: set[str] = set()
        self.is_deep = False
        self.blocks: list[_Block] = []
        self.worst = self.tags = 0
        self._read()

    def _read(self) -> None:
        end, line = 0, 1
        for found in _TAG.finditer(self.source):
            self._plain(self.source[end : found.start()])
            line += self.source.count("\n", end, found.start())
            self._tag(found, line)
            line += found[0].count("\n")
            end = found.end()
        self._plain(self.source[end:])
        if self.blocks:
            open_ = self.blocks[-1]
            raise Fault(open_.line, f"{{% {open_.kind} %}} is never closed; add {{% end{open_.kind} %}}")

    def _plain(self, text: str) -> None:
        self.written.append(text)
        self._count(len(text))

    def _count(self, characters: int) -> None:
        self.worst += characters * (MAX_ITEMS if self._local() else 1)

    def _local(self) -> str:
        return next((block.local for block in self.blocks if block.local), "")

    def _tag(self, found: re.Match[str], line: int) -> None:
        if found[8]:
            closing = {"{{": "}}", "{%": "%}", "{#": "#}"}[found[8]]
            raise Fault(line, f"{found[8]} has no {closing}; close it, or put a space between the two signs")
        if found[7] is not None:
            return  # a comment
        self.tags += 1
        if self.tags > MAX_TAGS:
            raise Fault(line, f"more than {MAX_TAGS:,} tags")
        if found[2] is not None:
            words = _Words(found[2], line, self)
            written = words.output()
            words.end()
            self.written.append(f"{{{{{found[1]} {written} {found[3]}}}}}")
        else:
            words = _Words(found[5], line, self)
            written = self._statement(words, line)
            words.end()
            self.written.append(f"{{%{found[4]} {written} {found[6]}%}}")

    def _statement(self, words: _Words, line: int) -> str:
        match words.take("name"):
            case "if":
                if sum(block.kind == "if" for block in self.blocks) >= MAX_DEPTH:
                    raise Fault(line, f"more than {MAX_DEPTH} {{% if %}} inside each other")
                condition = words.condition()
                self.blocks.append(_Block("if", line))
                return f"if {condition}"
            case "elif":
                self._inside_if("elif", line)
                return f"elif {words.condition()}"
            case "else":
                block = self._inside_if("else", line)
                self.blocks[-1] = block._replace(has_else=True)
                return "else"
            case "for":
                return self._loop(words, line)
            case "endif" | "endfor" as word:
                if not self.blocks or self.blocks[-1].kind != word[3:]:
                    raise Fault(line, f"{{% {word} %}} closes nothing that is open here")
                self.blocks.pop()
                return word
            case word:
                raise Fault(line, f"{{% {word[:40]} %}} is not allowed; {_REMEDY}")

    def _inside_if(self, word: str, line: int) -> _Block:
        if not self.blocks or self.blocks[-1].kind != "if" or self.blocks[-1].has_else:
            raise Fault(line, f"{{% {word} %}} stands outside of an {{% if %}}, or after its {{% else %}}")
        return self.blocks[-1]

    def _loop(self, words: _Words, line: int) -> str:
        if self._local():
            raise Fault(line, "a loop in a loop is not allowed; prepare the inner text before sending")
        local = words.name()
        if words.take("name") != "in":
            raise Fault(line, "a loop is written {% for item in list %}")
        path = words.path()
        self.is_deep = True
        self.use(path[0], line)
        self.blocks.append(_Block("for", line, local))
        return f"for {PREFIX}{local} in {_written(path)}|_entries({_quoted('.'.join(path))})"

    def use(self, name: str, line: int) -> None:
        """Remember where a variable is read first; the loop's own one is none."""
        if name != self._local():
            self.uses.setdefault(name, Use(name, line))

    def show(self, path: list[str], filters: list[str]) -> None:
        """Remember what is shown whole: a list or a group cannot be."""
        if len(path) > 1 or path[0] == self._local() or "first" in filters or "last" in filters:
            self.is_deep = True
        elif "length" not in filters:
            self.bare.add(path[0])

    def spend(self, path: list[str] | None, longest: int) -> None:
        """Count what an output can make at most."""
        if path is not None:
            longest = max(
                longest, MAX_INNER_VALUE if len(path) > 1 or path[0] == self._local() else MAX_VALUE
            )
        self._count(longest * self.growth)


class _Words:
    """The words of one tag, read from left to right, and written for the engine."""

    def __init__(self, text: str, line: int, parse: _Parse) -> None:
        self.text, self.line, self.parse = text.strip(), line, parse
        self.words: Iterator[re.Match[str]] = _WORD.finditer(text)
        self.next = next(self.words, None)

    def fault(self, why: str) -> Fault:
        """A fault of this tag, quoted."""
        return Fault(self.line, f"{self.text[:60]!r} is not allowed: {why}; {_REMEDY}")

    def peek(self) -> str:
        return self.next[0].strip() if self.next else ""

    def take(self, kind: str) -> str:
        found = self.next
        if found is None or found.lastgroup != kind:
            wanted = {"name": "a name", "text": "a text in quotes", "number": "a number"}.get(
                kind, "something else"
            )
            raise self.fault(f"{wanted} is expected where {self.peek()[:20] or 'it ends'!r} stands")
        self.next = next(self.words, None)
        return found[kind]

    def accept(self, *words: str) -> str:
        """The next word if it is one of these, else nothing."""
        word = self.peek()
        if word not in words:
            return ""
        self.next = next(self.words, None)
        return word

    def end(self) -> None:
        if self.next is not None:
            raise self.fault(f"{self.peek()[:20]!r} cannot stand here")

    def name(self) -> str:
        word = self.take("name")
        if not is_name(word):
            raise self.fault(
                f"{word[:40]!r} is not a name; a name has letters, digits and _, and begins with a letter"
            )
        return word

    def path(self) -> list[str]:
        """A variable, or a value inside one: a.b.c."""
        first = self.take("name") if self.peek() == "loop" and self.parse.blocks else self.name()
        path = [first]
        while self.accept("."):
            path.append(self.name() if first != "loop" else self.take("name"))
        if first == "loop" and not (len(path) == 2 and path[1] in _LOOP_FIELDS):
            raise self.fault("of a loop there are loop.index, loop.first, loop.last and loop.length")
        if len(path) > 4:
            raise self.fault("more than three dots")
        if first != "loop":
            self.parse.use(first, self.line)
        return path

    def literal(self) -> str:
        """A text or a number, as the engine reads it."""
        if self.next is not None and self.next.lastgroup == "text":
            return f'"{self.take("text")[1:-1]}"' if '"' not in self.peek()[1:-1] else self.take("text")
        return self.take("number")

    def is_literal(self) -> bool:
        return self.next is not None and self.next.lastgroup in ("text", "number")

    def output(self) -> str:
        """What stands between {{ and }}."""
        path = None if self.is_literal() else self.path()
        longest = len(self.peek())
        first = self.literal() if path is None else _written(path)
        filters = self.filters("" if path is None else ".".join(path))
        if path is not None and filters[:1] and filters[0].startswith("default("):
            first = _tolerant(path)
        if path is not None:
            self.parse.show(path, filters)
        if (
            path
            and ".".join(path) in SHOWN
            and not any(text.startswith(("date(", "time(")) for text in filters)
        ):
            first = f"_{path[0]}"
        self.parse.spend(path, longest + max((len(text) for text in filters), default=0))
        return "|".join([first, *filters])

    def filters(self, value: str) -> list[str]:
        """The filters behind a value; `value` is how to name it when it is missing."""
        written: list[str] = []
        while self.accept("|"):
            if len(written) == 4:
                raise self.fault("more than four filters")
            written.append(self.filter(value))
        return written

    def filter(self, value: str) -> str:
        name = self.take("name")
        if name not in FILTERS:
            raise self.fault(f"there is no filter {name[:40]!r}; there are {', '.join(FILTERS)}")
        arguments, least = FILTERS[name]
        given: list[str] = []
        if self.accept("("):
            while not self.accept(")"):
                if given and not self.accept(","):
                    raise self.fault(
                        f"{self.peek()[:20] or 'the end'!r} cannot stand in the arguments of {name!r}"
                    )
                if len(given) == len(arguments):
                    raise self.fault(f"the filter {name!r} takes {len(arguments) or 'no'} arguments")
                given.append(self.argument(name, arguments[len(given)]))
        if len(given) < least:
            raise self.fault(f"the filter {name!r} needs an argument: {arguments[0].example}")
        given = given or ([FIRST_ARGUMENT[name]] if name in FIRST_ARGUMENT else [])
        if name in ALSO_GIVEN:
            given.append(f"{ALSO_GIVEN[name]}{_quoted(value)}")
        return f"{name}({', '.join(given)})" if given else name

    def argument(self, name: str, argument: Argument) -> str:
        kind = self.next.lastgroup if self.next else None
        if name == "default" and kind == "number":
            return self.take("number")
        if kind != argument.kind:
            raise self.fault(f"the filter {name!r} takes {argument.kind}s, as in {argument.example or name}")
        literal = self.literal()
        inner = literal[1:-1] if kind == "text" else literal
        if argument.choices and inner not in argument.choices:
            raise self.fault(f"the filter {name!r} takes one of {', '.join(argument.choices)}")
        if argument.pattern and not re.fullmatch(argument.pattern, inner):
            raise self.fault(f"the filter {name!r} is written {argument.example}")
        return literal

    def condition(self) -> str:
        """Comparisons joined by `and` and `or`. A variable without a value is no error here: it is false."""
        written = [self.comparison()]
        while word := self.accept("and", "or"):
            if len(written) >= 13:
                raise self.fault("more than seven comparisons")
            written += [word, self.comparison()]
        return " ".join(written)

    def comparison(self) -> str:
        negated = "not " if self.accept("not") else ""
        path = self.path()
        left = "|".join([_tolerant(path) + '|default("")', *self.filters("")])
        if self.accept("is"):
            without = self.accept("not")
            if not self.accept("defined"):
                raise self.fault("the only test is `is defined`")
            return f'{negated}({left}){"==" if without else "!="}""'
        if sign := self.accept(*_COMPARISONS):
            right = self.literal() if self.is_literal() else f'({_tolerant(self.path())}|default(""))'
            return f'{negated}({left}|_compare("{sign}", {right}))'
        return f"{negated}({left})"


def _written(path: list[str]) -> str:
    """A path as the engine reads it."""
    return ".".join(path) if path[0] == "loop" else ".".join(f"{PREFIX}{part}" for part in path)


def _tolerant(path: list[str]) -> str:
    """A path that is merely undefined where a part of it is missing."""
    if path[0] == "loop":
        return _written(path)
    written = f"{PREFIX}{path[0]}"
    for part in path[1:]:
        written = f"({written}|default({{}})).{PREFIX}{part}"
    return written


def _quoted(name: str) -> str:
    return f'"{name}"'
