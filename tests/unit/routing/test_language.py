"""The language of a request is that of its last words; conditions may ask for it."""

from typing import Any

import orjson
import pytest
from tests.unit.routing.plans import chosen, plan_from

from sluice_core.routing.language import language_of, last_words
from sluice_core.routing.model import Ask

GERMAN, FRENCH = "Bitte fasse diesen Text kurz zusammen.", "Résume ce texte s'il te plaît, merci."


def chat(*texts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (chat("one", "two"), "two"),
        (chat([{"type": "text", "text": "a"}, {"type": "image_url"}, {"text": "b"}]), "a b"),
        (chat(None), ""),
        ({"input": "text"}, "text"),
        ({"input": ["one", "two"]}, "two"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "in"}]}]}, "in"),
        ({"input": [[1, 2]]}, ""),
        ({"query": "asked", "documents": ["d"]}, "asked"),
        ({}, ""),
        (chat("x" * 5000), "x" * 1000),
    ],
)
def test_the_last_words(document: dict[str, Any], expected: str) -> None:
    assert last_words(document) == expected


def test_languages_are_told_apart() -> None:
    assert language_of(orjson.dumps(chat(FRENCH, GERMAN))) == "de"
    assert language_of(orjson.dumps(chat(GERMAN, FRENCH))) == "fr"
    assert language_of(b'{"messages":[]}') is None


def test_a_condition_on_the_language() -> None:
    plan = plan_from(
        """
targets: [{account: a, model: m}, {account: b, model: m}]
routes:
  - {when: {languages: [de, nl]}, use: [b]}
"""
    )
    assert chosen(plan, Ask(body=orjson.dumps(chat(GERMAN)))) == "b"
    assert chosen(plan, Ask(body=orjson.dumps(chat(FRENCH)))) == "a"
    assert chosen(plan, Ask()) == "a"


def test_tiers() -> None:
    plan = plan_from(
        """
targets: [{account: a, model: m}, {account: b, model: m}, {account: c, model: m}]
escalation: {tiers: [[a], [b, c]]}
routes:
  - {when: {classes: [bulk]}, use: [c]}
"""
    )
    assert [chosen(plan, Ask(level=level)) for level in (0, 1, 2)] == ["a", "b", "b"]
    assert [plan.check_of(Ask(level=level)) is None for level in (0, 1)] == [False, True]
    # A condition decides before the tiers: whatever comes is its answer.
    assert plan.check_of(Ask(job_class="bulk")) is None
    # What is no chat is not checked, so none of it is kept back.
    assert plan.check_of(Ask(operation="responses")) is None
    assert not plan.alike


def test_no_job_waits_for_hours_that_begin_after_its_deadline() -> None:
    plan = plan_from(
        """
targets: [{account: a, model: m}]
off_peak: {hours: {start: "22:00", end: "06:00"}}
"""
    )
    noon, ten = 1_795_435_200.0 // 86_400 * 86_400 + 43_200, 10 * 3600.0
    assert plan.waits_until(Ask(job_class="bulk"), noon) == noon + ten
    assert plan.waits_until(Ask(job_class="bulk", deadline=noon + ten + 1), noon) == noon + ten
    assert plan.waits_until(Ask(job_class="bulk", deadline=noon + ten), noon) is None
