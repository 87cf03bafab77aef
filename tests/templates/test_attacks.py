"""What a template may not do: every payload is refused with a reason, or is text and nothing else."""

from __future__ import annotations

import time

import pytest
from msgspec import structs

from antiphon.core.errors import Invalid
from antiphon.templates import guard
from antiphon.templates.model import Variable
from antiphon.templates.render import RenderError, render
from tests.templates.samples import AT, BOOKING, email, version

REFUSED: list[tuple[str, str]] = [
    # growing without bound
    ("doubling itself forty times", "{% set a = 'x' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}"),
    ("doubling with a block", "{% set a %}{{ firstName }}{{ firstName }}{% endset %}{{ a }}"),
    ("joining", "{{ firstName ~ firstName }}"),
    ("repeating", "{{ 'a' * 100000000 }}"),
    ("repeating a variable", "{{ firstName * 1000000 }}"),
    ("a power", "{{ 9 ** 9 ** 9 }}"),
    ("a sum", "{{ firstName + firstName }}"),
    ("a wide format", "{{ '%1000000000d'|format(1) }}"),
    ("a format of a variable", "{{ firstName|format(1) }}"),
    ("replacing by more", "{{ firstName|replace('a', 'aaaaaaaaaaaa') }}"),
    ("indenting", "{{ firstName|indent(1000000000) }}"),
    ("centring", "{{ firstName|center(1000000000) }}"),
    ("batching", "{{ firstName|batch(1000000) }}"),
    ("a billion steps", "{% for i in range(1000000000) %}x{% endfor %}"),
    ("a loop in a loop", "{% for a in items %}{% for b in items %}x{% endfor %}{% endfor %}"),
    (
        "a loop in an if in a loop",
        "{% for a in x %}{% if a %}{% for b in y %}{% endfor %}{% endif %}{% endfor %}",
    ),
    ("a loop that calls itself", "{% for a in items recursive %}{{ loop(a) }}{% endfor %}"),
    ("a loop over a literal", "{% for a in 'abcdef' %}x{% endfor %}"),
    ("a loop over a list of its own", "{% for a in [1, 2, 3] %}x{% endfor %}"),
    ("a loop over a filter", "{% for a in items|map('upper') %}x{% endfor %}"),
    ("a loop with a condition", "{% for a in items if a %}x{% endfor %}"),
    ("a loop over two names", "{% for a, b in items %}x{% endfor %}"),
    ("a loop with an else", "{% for a in items %}x{% else %}y{% endfor %}"),
    ("a macro", "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}"),
    ("a macro called with a block", "{% call m() %}x{% endcall %}"),
    ("ifs nine deep", "{% if firstName %}" * 9 + "x" + "{% endif %}" * 9),
    ("more tags than allowed", "{{ firstName }}" * 1001),
    ("a long loop of long values", "{% for i in items %}" + "{{ firstName }}" * 100 + "{% endfor %}"),
    ("a source that is too long", "x" * 262_145),
    ("a filter five times", "{{ firstName|trim|trim|trim|trim|trim }}"),
    # reaching for objects
    ("the class of a literal", "{{ ''.__class__ }}"),
    ("the class of a variable", "{{ firstName.__class__ }}"),
    ("the way to every class", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    ("a function's globals", "{{ firstName.__init__.__globals__ }}"),
    ("an underscore", "{{ _language }}"),
    ("an underscore inside", "{{ firstName._x }}"),
    ("brackets", "{{ firstName['__class__'] }}"),
    ("an index", "{{ firstName[0] }}"),
    ("a slice", "{{ firstName[1:2] }}"),
    ("attr", "{{ firstName|attr('__class__') }}"),
    ("a hexadecimal name", "{{ firstName|attr('\\x5f\\x5fclass\\x5f\\x5f') }}"),
    ("a method", "{{ firstName.upper() }}"),
    ("a method with an argument", "{{ firstName.replace('a', 'b') }}"),
    ("a format method", "{{ '{0.__class__}'.format(firstName) }}"),
    ("a call", "{{ firstName() }}"),
    ("self", "{{ self }}"),
    ("self's blocks", "{{ self.title() }}"),
    ("caller", "{{ caller() }}"),
    ("super", "{{ super() }}"),
    ("loop outside of a loop", "{{ loop.index }}"),
    ("a cycle", "{% for a in items %}{{ loop.cycle('a', 'b') }}{% endfor %}"),
    ("the loop itself", "{% for a in items %}{{ loop }}{% endfor %}"),
    ("deeper in the loop", "{% for a in items %}{{ loop.index.x }}{% endfor %}"),
    ("an underscore as the loop's name", "{% for _x in items %}{{ _x }}{% endfor %}"),
    # functions of the engine
    ("range", "{{ range(10) }}"),
    ("debug", "{{ debug() }}"),
    ("dict", "{{ dict(a=1) }}"),
    ("namespace", "{% set ns = namespace(a=1) %}"),
    ("lipsum", "{{ lipsum.__globals__['os'].popen('id').read() }}"),
    ("cycler", "{{ cycler.__init__.__globals__.os }}"),
    ("joiner", "{{ joiner() }}"),
    ("url_for", "{{ url_for.__globals__ }}"),
    ("get_flashed_messages", "{{ get_flashed_messages.__globals__ }}"),
    ("config", "{{ config.items() }}"),
    ("request", "{{ request.application.__globals__ }}"),
    ("environment", "{{ env('SECRET_KEY') }}"),
    ("open", "{{ open('/etc/passwd').read() }}"),
    ("import of os", "{{ __import__('os').system('id') }}"),
    # files and other templates
    ("include", "{% include '/etc/passwd' %}"),
    ("include of a variable", "{% include firstName %}"),
    ("import", "{% import 'x' as x %}"),
    ("from import", "{% from 'x' import y %}"),
    ("extends", "{% extends 'layout.html' %}"),
    ("a block", "{% block title %}x{% endblock %}"),
    # switching protection off
    ("safe", "{{ firstName|safe }}"),
    ("autoescape", "{% autoescape false %}{{ firstName }}{% endautoescape %}"),
    ("raw", "{% raw %}{{ firstName }}{% endraw %}"),
    ("verbatim", "{% verbatim %}{{ firstName }}{% endverbatim %}"),
    ("a filter block", "{% filter upper %}x{% endfilter %}"),
    ("with", "{% with a = firstName %}{{ a }}{% endwith %}"),
    ("do", "{% do firstName %}"),
    ("trans", "{% trans %}{{ firstName }}{% endtrans %}"),
    # filters outside the list
    *(
        (f"the filter {name}", f"{{{{ firstName|{name} }}}}")
        for name in (
            *(
                "abs",
                "bool",
                "capitalize",
                "chain",
                "count",
                "d",
                "dictsort",
                "e",
                "escape",
                "filesizeformat",
            ),
            *("float", "groupby", "int", "items", "join", "lines", "list", "map", "max", "min", "pprint"),
            *(
                "random",
                "reject",
                "reverse",
                "round",
                "select",
                "slice",
                "sort",
                "split",
                "string",
                "striptags",
            ),
            *("sum", "tojson", "unique", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr", "zip"),
            *("_entries", "_compare", "__class__", "forceescape", "nosuchfilter"),
        )
    ),
    # other expressions
    ("an inline if", "{{ firstName if lastName else email }}"),
    ("a comparison as output", "{{ 1 == 1 }}"),
    ("a negation as output", "{{ not firstName }}"),
    ("a list", "{{ [firstName] }}"),
    ("a dictionary", "{{ {'a': 1} }}"),
    ("a lambda", "{{ lambda: 1 }}"),
    ("parentheses", "{{ (firstName) }}"),
    ("in", "{% if 'a' in firstName %}x{% endif %}"),
    ("a test that is not defined", "{% if firstName is string %}x{% endif %}"),
    ("a call in a condition", "{% if firstName() %}x{% endif %}"),
    ("dunder in a condition", "{% if firstName.__class__ %}x{% endif %}"),
    ("nothing", "{{ }}"),
    ("only blanks", "{{\t\n}}"),
    ("only a filter", "{{ |upper }}"),
    ("a filter without a name", "{{ firstName| }}"),
    ("two names", "{{ firstName lastName }}"),
    ("a dot at the end", "{{ firstName. }}"),
    ("four dots", "{{ a.b.c.d.e }}"),
    ("a name that is too long", "{{ " + "a" * 65 + " }}"),
    ("a name in another script", "{{ größe }}"),
    ("a semicolon", "{{ firstName; }}"),
    ("a backslash in a text", "{{ firstName|default('a\\'b') }}"),
    ("braces in a text", "{{ firstName|default('}}') }}"),
    ("an argument too many", "{{ firstName|upper(1) }}"),
    ("an argument too few", "{{ firstName|truncate }}"),
    ("an argument of another kind", "{{ firstName|truncate('x') }}"),
    ("a date style that does not exist", "{{ eventDate|date('EEEE') }}"),
    ("a currency that is none", "{{ firstName|money('x' * 9) }}"),
    ("a keyword argument", "{{ firstName|truncate(length=3) }}"),
    ("an open argument list", "{{ firstName|truncate(3 }}"),
    # broken
    ("an open variable", "Hallo {{ firstName"),
    ("an open tag", "{% if firstName"),
    ("an open comment", "{# nobody ends this"),
    ("an open if", "{% if firstName %}x"),
    ("an open for", "{% for a in items %}x"),
    ("an endif too many", "x{% endif %}"),
    ("an endfor for an if", "{% if firstName %}x{% endfor %}"),
    ("two elses", "{% if firstName %}a{% else %}b{% else %}c{% endif %}"),
    ("elif after else", "{% if firstName %}a{% else %}b{% elif email %}c{% endif %}"),
    ("else outside", "{% else %}"),
    ("an empty tag", "{% %}"),
    ("a tag in a tag", "{% if {{ firstName }} %}x{% endif %}"),
    # languages of others
    ("Go's dot", "{{ . }}"),
    ("Go's field", "{{ .FirstName }}"),
    ("Go's environment", '{{ env "HOME" }}'),
    ("Go's printf", '{{ printf "%s" .Name }}'),
    ("Handlebars' each", "{{#each items}}x{{/each}}"),
    ("Handlebars' three braces", "{{{ firstName }}}"),
    ("Mustache's ampersand", "{{& firstName }}"),
    ("Liquid's assign", "{% assign a = 1 %}"),
    ("Liquid's capture", "{% capture a %}x{% endcapture %}"),
    ("Liquid's case", "{% case firstName %}{% when 'x' %}{% endcase %}"),
    ("Twig's sort with a function", "{{ ['id']|sort('system') }}"),
    ("Django's load", "{% load i18n %}"),
    ("Django's debug", "{% debug %}"),
    ("Django's argument", "{{ firstName|default:'x' }}"),
]

INERT: list[tuple[str, str]] = [
    ("Velocity", "#set($x = 7 * 7)${x}"),
    ("Freemarker", '${"freemarker.template.utility.Execute"?new()("id")}'),
    ("Thymeleaf", "*{T(java.lang.Runtime).getRuntime().exec('id')}"),
    ("ERB", "<%= 7 * 7 %>"),
    ("a shell", "$(id) `id`"),
    ("Python's format", "{0.__class__} {firstName} %(firstName)s %s %n"),
    ("JavaScript's", "${7*7} #{7*7} @{7*7}"),
    ("style sheets", "@media (max-width: 9px) { a { color: red } }}"),
    ("closing signs alone", "}} %} #}"),
    ("an entity", "&#123;&#123; firstName &#125;&#125;"),
]

DECLARED = {
    "items": Variable(["a"]),
    **{name: Variable(["a"]) for name in ("x", "y", "a", "b", "config", "request", "größe")},
}


@pytest.mark.parametrize("source", [source for _, source in REFUSED], ids=[what for what, _ in REFUSED])
def test_is_refused_on_save_and_again_when_sending(source: str) -> None:
    one = version(source, variables={k: v for k, v in DECLARED.items() if k.isascii()})
    started = time.perf_counter()
    with pytest.raises(Invalid) as refused:
        guard.check_text(one)
    assert refused.value.code == "template_invalid"
    assert refused.value.errors[0].field == "text"
    assert refused.value.errors[0].message.startswith("line 1: ")
    with pytest.raises(RenderError, match="not usable"):
        render(one, {**BOOKING, "items": ["a"]}, "de", at=AT)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("source", [source for _, source in INERT], ids=[what for what, _ in INERT])
def test_is_text_and_nothing_else(source: str) -> None:
    assert render(version(source), BOOKING, "de", at=AT).text == source


MORE = {"items": Variable(["a"]), "link": Variable("https://example.com/b/1")}

HTML_PLACES: list[tuple[str, str]] = [
    ("an attribute without quotes", "<a title={{ firstName }}>x</a>"),
    ("the name of an attribute", "<a {{ firstName }}>x</a>"),
    ("the name of a tag", "<{{ firstName }}>"),
    ("the name of a tag behind a comment", "<{# x #}{{ firstName }}>"),
    ("a tag that only one branch opens", "{% if company %}<b {% else %}>{% endif %}{{ firstName }}"),
    ("a quote that only one branch opens", '<b title={% if company %}"x{% endif %}{{ firstName }}">x</b>'),
    ("a loop over half a tag", "{% for i in items %}<b {% endfor %}{{ firstName }}>"),
    ("a style sheet that ends in a branch", "{% if company %}<style>{% endif %}</style>{{ firstName }}"),
    ("a script", "<script>let name = '{{ firstName }}'</script>"),
    ("a script that is not closed", "<SCRIPT>{{ firstName }}"),
    ("a style sheet", "<style>a { color: {{ firstName }} }</style>"),
    ("a comment", "<!-- {{ firstName }} -->"),
    ("a conditional comment", "<!--[if mso]>{{ firstName }}<![endif]-->"),
    ("an event handler", "<b onclick=\"alert('{{ firstName }}')\">x</b>"),
    ("a style attribute", '<b style="color: {{ firstName }}">x</b>'),
    ("a document in an attribute", '<iframe srcdoc="{{ firstName }}"></iframe>'),
    ("the beginning of a link", '<a href="{{ firstName }}">x</a>'),
    ("the beginning of a link with blanks", "<a href = ' {{ firstName }}'>x</a>"),
    ("a script's link", '<a href="javascript:{{ firstName }}">x</a>'),
    ("a link that only ends as one", '<a href="{{ link|url|lower }}">x</a>'),
    ("a data link", '<img src="data:{{ firstName }}">'),
    ("a form's target", '<form action="{{ firstName }}">x</form>'),
    ("behind a quote of the other kind", "<a title='\"' class={{ firstName }}>x</a>"),
]

GOOD_PLACES: list[tuple[str, str]] = [
    ("text", "<p>{{ firstName }} < 3 & {{ lastName }}</p>"),
    ("a quoted attribute", '<a title="{{ firstName }}">x</a>'),
    ("the rest of a link", '<a href="https://example.com/b/{{ bookingRef }}?n={{ firstName }}">x</a>'),
    ("a whole link", '<a href="{{ link|url }}">x</a>'),
    ("a mail link", '<a href="mailto:{{ email }}">x</a>'),
    ("after a script", "<script>x</script>{{ firstName }}"),
    ("after a comment", "<!-- a > b --><p>{{ firstName }}</p>"),
    ("inside an if that is an attribute", '<b {% if firstName %}class="x"{% endif %}>{{ firstName }}</b>'),
    (
        "branches with whole tags",
        "{% if company %}<b>{{ company }}</b>{% else %}<i>{{ firstName }}</i>{% endif %}",
    ),
    ("a loop of rows", "<ul>{% for i in items %}<li title='{{ i }}'>{{ i }}</li>{% endfor %}</ul>"),
    ("a style sheet without variables", "<style>@media print{a{b:c}}</style>{{ firstName }}"),
]


@pytest.mark.parametrize("html", [html for _, html in HTML_PLACES], ids=[what for what, _ in HTML_PLACES])
def test_a_variable_may_not_stand_in(html: str) -> None:
    with pytest.raises(Invalid) as refused:
        guard.check_text(structs.replace(email(html), variables=MORE))
    assert {error.field for error in refused.value.errors} == {"html"}


@pytest.mark.parametrize("html", [html for _, html in GOOD_PLACES], ids=[what for what, _ in GOOD_PLACES])
def test_a_variable_may_stand_in(html: str) -> None:
    guard.check_text(structs.replace(email(html), variables=MORE))
