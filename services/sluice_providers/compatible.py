"""What makes the requests and answers of compatible servers OpenAI's: pure changes to parsed documents, in place."""

from typing import Any, Final

from sluice_core.config.compatible import Quirks
from sluice_providers.adapter import ReportedError
from sluice_providers.errors import error_body

_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_FINISH: Final = {
    "model_length": "length",
    "insufficient_system_resource": "length",
    "eos": "stop",
    "eos_token": "stop",
}
_REASONING: Final = "reasoning_content"
"""The name under which thoughts go out to callers, whatever they came under."""


def suit(document: dict[str, Any], quirks: Quirks) -> tuple[str, ...]:
    """Say a chat request as the server knows it; warnings name what was left out."""
    limits = [document.pop(name) for name in _LIMITS if document.get(name)]
    if limits:
        document[quirks.max_tokens_field] = limits[0]
    if document.get("tool_choice") == "required":
        document["tool_choice"] = quirks.required_tool_choice
    for name, other in quirks.rename.items():
        if document.get(name) is not None:
            document[other] = document.pop(name)
    messages = document.get("messages")
    if isinstance(messages, list):
        document["messages"] = [_message(message, quirks) for message in messages]
    left = [name for name in quirks.leave_out if document.pop(name, None) is not None]
    return tuple(f"{name}: not known to this provider and was left out" for name in left)


def _message(message: Any, quirks: Quirks) -> Any:
    if not isinstance(message, dict):
        return message
    suited = dict(message)
    if suited.get("role") == "developer" and not quirks.developer_role:
        suited["role"] = "system"
    if quirks.reasoning_field != _REASONING and _REASONING in suited:
        suited[quirks.reasoning_field] = suited.pop(_REASONING)
    for name in quirks.message_leave_out:
        suited.pop(name, None)
    return suited


def plain_answer(document: dict[str, Any], quirks: Quirks) -> None:
    """Make a whole chat answer OpenAI's. Raises ReportedError for an error that stands in a choice."""
    for choice in document["choices"]:
        _choice(choice, choice.get("message"))
        if isinstance(choice.get("message"), dict):
            choice["message"].setdefault("content", None)
    _usage(document, quirks)


class PlainChunks:
    """Makes the chunks of one stream OpenAI's."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._calls: dict[int, _CallNumbers] = {}
        self._ahead: dict[str, Any] = {}

    def make(self, chunk: dict[str, Any]) -> bool:
        """Change one chunk; False: it says nothing yet, and what it holds goes with the next.

        Raises ReportedError for an error that stands in a choice.
        """
        if not chunk.get("object"):
            chunk["object"] = "chat.completion.chunk"
        if not chunk.get("choices"):
            chunk["choices"] = []
        for choice in chunk["choices"]:
            delta = choice.setdefault("delta", {})
            _choice(choice, delta)
            calls = delta.get("tool_calls") if delta else None
            if calls and self._quirks.renumber_tool_calls:
                index = choice.get("index", 0)
                self._calls.setdefault(index, _CallNumbers()).number(calls)
        _usage(chunk, self._quirks)
        if not chunk["choices"] and not chunk.get("usage"):
            # Were it handed out, a stream that breaks off now could not be asked for elsewhere.
            self._ahead |= {name: value for name, value in chunk.items() if value}
            return False
        for name, value in self._ahead.items():
            chunk.setdefault(name, value)
        self._ahead = {}
        return True


class _CallNumbers:
    """Gives the tool calls of one choice an index each, where several come under one."""

    def __init__(self) -> None:
        self._current: dict[int, tuple[int, str | None]] = {}
        self._next = 0

    def number(self, calls: list[dict[str, Any]]) -> None:
        for call in calls:
            index, given = call.get("index") or 0, call.get("id")
            known = self._current.get(index)
            if known is None or (given and known[1] and given != known[1]):
                known = (self._next, given)
                self._next += 1
            elif known[1] is None:
                known = (known[0], given)
            self._current[index] = known
            call["index"] = known[0]


def _choice(choice: dict[str, Any], message: Any) -> None:
    finish = choice.get("finish_reason")
    if finish in _FINISH:
        choice["finish_reason"] = _FINISH[finish]
    elif finish == "error":
        raise _failed(choice.get("error"))
    if not isinstance(message, dict):
        return
    thoughts = message.pop("reasoning", None) if "reasoning" in message else None
    if isinstance(thoughts, str) and not message.get(_REASONING):
        message[_REASONING] = thoughts
    content = message.get("content")
    if isinstance(content, list):
        text, thought = _parts(content)
        message["content"] = text
        if thought:
            message[_REASONING] = (message.get(_REASONING) or "") + thought


def _parts(content: list[Any]) -> tuple[str, str]:
    """The text of a list of content parts, and the thoughts among them."""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif part.get("type") == "thinking":
            inside = part.get("thinking")
            thoughts.append(inside if isinstance(inside, str) else _parts(inside or [])[0])
        elif isinstance(part.get("text"), str):
            texts.append(part["text"])
    return "".join(texts), "".join(thoughts)


def _usage(document: dict[str, Any], quirks: Quirks) -> None:
    """Put usage where OpenAI has it, and into its counting style."""
    groq = document.get("x_groq")
    if isinstance(groq, dict):
        if groq.get("error"):
            raise _failed(groq["error"])
        if not document.get("usage") and isinstance(groq.get("usage"), dict):
            document["usage"] = groq["usage"]
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return
    hit = usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens"))
    if type(hit) is int and not usage.get("prompt_tokens_details"):
        usage["prompt_tokens_details"] = {"cached_tokens": hit}
    if quirks.reasoning_apart:
        _include_reasoning(usage)


def _include_reasoning(usage: dict[str, Any]) -> None:
    details = usage.get("completion_tokens_details")
    apart = details.get("reasoning_tokens") if isinstance(details, dict) else None
    given, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(apart) is not int or type(given) is not int or type(output) is not int:
        return
    # A total that holds them once already says that the server counts as OpenAI does.
    if usage.get("total_tokens") != given + output:
        usage["completion_tokens"] = output + apart


def _failed(error: object) -> ReportedError:
    if isinstance(error, dict):
        message = str(error.get("message") or "the provider reported an error")
        code = error.get("code")
        return ReportedError(message, error_body(message, code=None if code is None else str(code)))
    message = str(error or "the provider reported an error")
    return ReportedError(message, error_body(message))
