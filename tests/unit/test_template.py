"""Templates: what they may do, what is found before they run, how values print, where a text is cut."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.sync.template import Template, Unrenderable, cut_at_word, findings, names


def rendered(source: str, max_chars: int = 8000, **values: object) -> str:
    return Template(source).render(values, max_chars)[0]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ name|shout }}", "no filter 'shout'"),
        ("{{ name|attr('x') }}", "no filter 'attr'"),
        ("{{ tags|map('shout')|list }}", "map takes the name of a filter"),
        ("{{ tags|select('shiny')|list }}", "select takes the name of a test"),
        ("{{ name is shiny }}", "no test 'shiny'"),
        ("{{ range(10) }}", "calls are not possible"),
        ("{% for n in range(1000000) %}x{% endfor %}", "calls are not possible"),
        ("{{ name.upper() }}", "calls are not possible"),
        ("{% for a in tags recursive %}{{ loop(a) }}{% endfor %}", "recursive loops"),
        ("{% for a in x %}{% for b in x %}{% for c in x %}.{% endfor %}{% endfor %}{% endfor %}", "2 deep at most"),
        ("{% macro tea() %}{% endmacro %}", "macros"),
        ("{% import 'tea' as t %}", "import"),
        ("{% include 'tea' %}", "include"),
        ("{% extends 'tea' %}", "extends"),
        ("{% set tea = name %}", "set is not possible"),
        ("{% filter upper %}x{% endfilter %}", "not possible"),
        ("{% with tea = 1 %}{% endwith %}", "not possible"),
        ("{{ name.__class__ }}", "cannot begin with _"),
        ("{{ name['__class__'] }}", "cannot hold __"),
        ("{{ tags|map(attribute='__class__')|list }}", "cannot hold __"),
        ("{{ _secret }}", "is no field"),
        ("{{ self }}", "is no field"),
        ("{{ 'a' * 1000000000 }}", "not possible"),
        ("{{ 9 ** 9 }}", "not possible"),
        ("{{ '" + "a" * 300 + "' }}", "200 characters"),
        ("{{ name " * 3, "line 1"),
        ("{% if name %}", "line 1"),
        ("{{" + "(" * 5000 + "name" + ")" * 5000 + "}}", "cannot be compiled"),
        ("{{ a }}" * 2500, "parts"),
    ],
)
def test_what_a_template_may_not_do_is_found_before_it_runs(source: str, why: str) -> None:
    found = findings(source)
    assert any(why in finding for finding in found), found
    assert all(finding.startswith("line ") for finding in found)
    with pytest.raises(ValueError, match="line"):
        Template(source)


def test_a_finding_says_the_line() -> None:
    assert findings("{{ name }}\n\n{{ name|shout }}")[0].startswith("line 3: ")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ name }}\n{{ missing }}\n{{ empty }}\n{{ none }}\nend", "Kettle\nend"),
        ("{{ tags }}", "steel\nquiet"),
        ("{% for tag in tags %}\n- {{ tag }}\n{% endfor %}", "- steel\n- quiet"),
        ("{% for tag in tags if tag != 'steel' %}{{ loop.index }}{{ tag }}{% endfor %}", "1quiet"),
        ("{{ tags|join(', ')|upper }}", "STEEL, QUIET"),
        ("{{ size.wide.high }}{{ size.cups }}{{ name.nothing.there }}", "4"),
        ("{{ rooms|map(attribute='name')|join('/') }}", "Kitchen/Hall"),
        ("{% for room in rooms %}{{ room.name }} {% endfor %}", "Kitchen Hall"),
        ("{% if name is defined and not missing %}yes{% else %}no{% endif %}", "yes"),
        ("{{ litres }} {{ whole }} {{ yes }} {{ count }}", "1.7 2 true 12"),
        ("{{ missing|default('none') }} {{ name[:3] ~ '.' }} {{ name|truncate(5, leeway=0) }}", "none Ket. Ke..."),
        ("{% raw %}{{ name }}{% endraw %} {# note #}", "{{ name }}"),
        ("<b>{{ mark }}</b>", "<b><&></b>"),
    ],
)
def test_how_values_print(source: str, text: str) -> None:
    values = {
        "name": "Kettle", "empty": [], "none": None, "tags": ["steel", "quiet"], "size": {"cups": 4}, "litres": 1.7,
        "whole": 2.0, "yes": True, "count": 12, "rooms": [{"name": "Kitchen"}, {"name": "Hall"}], "mark": "<&>",
    }  # fmt: skip
    assert rendered(source, **values) == text


UNPRINTABLE = {"object": {"a": 1}, "nan": float("nan"), "inf": float("inf"), "list": [1, {"a": 1}], "huge": 1 << 20_000}


@pytest.mark.parametrize("value", UNPRINTABLE.values(), ids=UNPRINTABLE)
def test_what_cannot_print_is_said_without_the_value(value: object) -> None:
    with pytest.raises(Unrenderable) as caught:
        rendered("{{ name }}", name=value)
    assert len(str(caught.value)) < 120


def test_a_filter_that_does_not_fit_the_value_is_the_products_trouble() -> None:
    with pytest.raises(Unrenderable, match="TypeError"):
        rendered("{{ name|round }}", name="Kettle")


def test_names_are_the_fields_and_not_the_loops_own() -> None:
    assert names("{% for t in tags %}{{ t.name }}{{ loop.index }}{% endfor %}{{ size.cups }}") == {"tags", "size"}


def test_output_is_bounded_whatever_a_template_prints() -> None:
    lists = "{% for a in x %}{% for b in x %}{{ a }}{{ b }} {% endfor %}{% endfor %}"
    started = time.process_time()
    text, truncated = Template(lists).render({"x": ["word" * 10] * 100_000}, 500)
    assert truncated
    assert len(text) <= 500
    assert time.process_time() - started < 2


def test_filters_cannot_blow_a_value_up() -> None:
    source = "{{ x" + "|replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')" * 20 + " }}"
    assert len(rendered(source, 1_000_000, x="a" * 1000)) <= 100_000


@pytest.mark.parametrize(
    ("size", "text"),
    [(30, "brown tea kettle"), (16, "brown tea kettle"), (13, "brown tea"), (9, "brown tea"), (5, "brown"), (3, "bro")],
)
def test_a_text_is_cut_at_a_word(size: int, text: str) -> None:
    assert cut_at_word("brown tea kettle", size) == (text, size < 16)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="ab \n", max_size=300), st.integers(1, 50))
def test_a_cut_text_is_a_beginning_and_not_longer(text: str, size: int) -> None:
    cut, truncated = cut_at_word(text, size)
    assert len(cut) <= size
    assert text.startswith(cut)
    assert truncated == (len(text) > size)


FRAGMENTS = st.sampled_from(
    ["{{", "}}", "{%", "%}", "name", "|", "upper", "(", ")", ".", "[", "]", "for", "in", "if", "endfor", "endif", " ",
     "'", "~", "map", "=", "attribute", "1", "*", "{#", "#}", "\n", "not", "is", "loop", "__class__", ":", ","]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=25).map("".join), st.text(max_size=50))
def test_any_source_is_found_wrong_or_renders_bounded(source: str, name: str) -> None:
    if findings(source):
        return
    try:
        text, _ = Template(source).render({"name": name}, 100)
    except Unrenderable:
        return
    assert len(text) <= 100
