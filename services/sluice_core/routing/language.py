"""The language of a request, told by its last words.

By py3langid (a naive Bayes classifier over byte n-grams; Lui and Baldwin, "langid.py: an off-the-shelf language
identification tool", 2012). Its model takes two seconds to load and a hundred megabytes, so only what asks for a language
loads it.
"""

from functools import cache, lru_cache
from typing import Any, Final

import orjson

MOST_CHARACTERS: Final = 1_000
"""Of a text that are looked at: more says no more."""
_REMEMBERED: Final = 1_000


@cache
def _classify() -> Any:
    import py3langid

    py3langid.classify("")
    return py3langid.classify


def load() -> None:
    """Load the model now, rather than with the first request."""
    _classify()


@cache
def known_languages() -> frozenset[str]:
    """The ISO 639-1 codes of what can be told apart."""
    from py3langid import langid

    _classify()
    return frozenset(langid.IDENTIFIER.labels)


def language_of(body: bytes) -> str | None:
    """The ISO 639-1 code of a request's language; None where it says nothing in words. `body` is JSON."""
    text = last_words(orjson.loads(body))
    return _language(text) if text else None


@lru_cache(_REMEMBERED)
def _language(text: str) -> str:
    language, _ = _classify()(text)
    return str(language)


def last_words(document: dict[str, Any]) -> str:
    """The beginning of what is asked last: the last message's text, the input, the query; empty where there is none."""
    for name in ("messages", "input"):
        value = document.get(name)
        if isinstance(value, list) and value:
            last = value[-1]
            return _text(last.get("content") if isinstance(last, dict) else last)
        if isinstance(value, str):
            return _text(value)
    return _text(document.get("query"))


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        content = " ".join(part for part in parts if isinstance(part, str))
    return content.strip()[:MOST_CHARACTERS] if isinstance(content, str) else ""
