"""What the mock answers and how many tokens it says that took, in one form for both APIs.

The formula, so that a test can compute a cost by itself:

- input tokens = ceil(UTF-8 bytes of all message texts, system prompt and tool results included, / 4),
  plus 40 for each image or other medium; for embeddings the same over the inputs;
- the answer is `You said: ` and the first 400 characters of the last user message or tool result, or, with
  `words=N`, `word1 … wordN`, or, with `size=N`, N times `x`;
- output tokens = white-space separated words of the answer × choices, plus `reasoning=N`; for a tool call
  the words of its name and arguments;
- a limit on output tokens cuts the answer after that many words (stop reason `length` or `max_tokens`).

A line `call:NAME {json}` in that message calls the tool NAME, if the request has it; several lines
call several tools.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluice_devstack.mock_provider.behaviour import Behaviour

MEDIUM_TOKENS = 40
_CALL = re.compile(r"^call:([\w-]+)[ \t]*(\{.*\})?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The counted part of a request: bytes of text, media, and what was said last."""

    text_bytes: int
    media: int
    last: str

    @property
    def tokens(self) -> int:
        """Input tokens by the formula."""
        return -(-self.text_bytes // 4) + MEDIUM_TOKENS * self.media


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer before it takes an API's shape; `cut` says that the limit shortened it."""

    text: str
    calls: tuple[tuple[str, str], ...]
    cut: bool
    output_tokens: int


def read_prompt(messages: Iterable[Mapping[str, Any]], *extra: object) -> Prompt:
    """Count the texts of messages in either API's form, and of `extra` contents such as a system prompt."""
    size, media, last = 0, 0, ""
    for content in extra:
        for text, medium in _parts(content):
            size, media = size + len(text.encode()), media + medium
    for message in messages:
        content = message.get("content")
        for text, medium in _parts(content):
            size, media = size + len(text.encode()), media + medium
        if message.get("role") in {"user", "tool"}:
            last = _said(content) or last
    return Prompt(text_bytes=size, media=media, last=last)


def _said(content: object) -> str:
    """What the user says; in a message of tool results alone, the last of them."""
    if not isinstance(content, list):
        return "".join(text for text, _ in _parts(content))
    results = [part for part in content if isinstance(part, dict) and "tool_use_id" in part]
    spoken = [text for text, _ in _parts([part for part in content if part not in results])]
    if not any(spoken) and results:
        spoken = [text for text, _ in _parts(results[-1:])]
    return "\n".join(filter(None, spoken))


def _parts(content: object) -> Iterable[tuple[str, int]]:
    if isinstance(content, str):
        yield content, 0
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part, 0
            elif not isinstance(part, dict):
                continue
            elif part.get("type") == "tool_result":
                yield from _parts(part.get("content"))
            elif "text" in part:
                yield str(part["text"]), 0
            elif part.get("type") not in {"tool_use", "thinking", "redacted_thinking"}:
                yield "", 1


def compose(
    prompt: Prompt,
    behaviour: Behaviour,
    *,
    tools: Iterable[str],
    parallel: bool,
    limit: int | None,
    choices: int,
) -> Reply:
    """Compose the answer to `prompt` under `behaviour`."""
    known = set(tools)
    calls = tuple(
        (name, arguments or "{}") for name, arguments in _CALL.findall(prompt.last) if name in known
    )
    if not parallel:
        calls = calls[:1]
    text, cut = "" if calls else _text(prompt, behaviour), False
    words = text.split()
    if calls:
        words = [word for call in calls for part in call for word in part.split()]
    elif limit is not None and len(words) > limit:
        text, words, cut = " ".join(words[:limit]), words[:limit], True
    return Reply(
        text=text,
        calls=calls,
        cut=cut,
        output_tokens=len(words) * choices + behaviour.reasoning,
    )


def _text(prompt: Prompt, behaviour: Behaviour) -> str:
    if behaviour.size:
        return "x" * behaviour.size
    if behaviour.words:
        return " ".join(f"word{number}" for number in range(1, behaviour.words + 1))
    return f"You said: {prompt.last[:400]}"


def pieces(text: str) -> list[str]:
    """Cut a text into the pieces of a stream: a word with its following space, at most 64 KiB each."""
    return re.findall(r"\s*\S{1,65536}\s*", text) or ([text] if text else [])
