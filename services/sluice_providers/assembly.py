"""Puts the chunks of an OpenAI chat stream together into the body that the same call would have answered whole."""

from typing import Any

from sluice_providers.adapter import EmptyError

_APPENDED = frozenset({"arguments", "data", "transcript"})


class _Calls:
    """The tool calls of one choice, merged by index."""

    def __init__(self) -> None:
        self._order: list[dict[str, Any]] = []
        self._by_index: dict[int, dict[str, Any]] = {}

    def add(self, delta: dict[str, Any]) -> None:
        index = delta.get("index", 0)
        call = self._by_index.get(index)
        # Some servers number every parallel call 0; a new id then means a new call.
        if call is None or (delta.get("id") and call["id"] and delta["id"] != call["id"]):
            call = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
            self._by_index[index] = call
            self._order.append(call)
        for name, value in delta.items():
            if name == "function":
                self._add_function(call["function"], value or {})
            elif name != "index" and value is not None:
                call[name] = value

    @staticmethod
    def _add_function(function: dict[str, Any], delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            if name == "arguments":
                function["arguments"] += value or ""
            elif value:
                function[name] = value

    def whole(self) -> list[dict[str, Any]]:
        return [call | {"id": call["id"] or f"call_{n}"} for n, call in enumerate(self._order)]


class _Choice:
    """One choice under assembly."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._calls: _Calls | None = None
        self._logprobs: dict[str, list[Any]] | None = None
        self._extra: dict[str, Any] = {}

    def add(self, choice: dict[str, Any]) -> int:
        """Merge one chunk's choice; gives the bytes of text that it brought."""
        if choice.get("finish_reason"):
            self.finish = choice["finish_reason"]
        for name, value in (choice.get("logprobs") or {}).items():
            if value:
                self._logprobs = self._logprobs or {}
                self._logprobs.setdefault(name, []).extend(value)
        for name, value in choice.items():
            if name not in {"index", "delta", "finish_reason", "logprobs"}:
                self._extra[name] = value
        size = 0
        for name, value in (choice.get("delta") or {}).items():
            size += self._add_field(name, value)
        return size

    def _add_field(self, name: str, value: Any) -> int:
        if name == "role" or value is None:
            return 0
        if name == "tool_calls":
            self._calls = self._calls or _Calls()
            for delta in value:
                self._calls.add(delta)
            return sum(len((d.get("function") or {}).get("arguments") or "") for d in value)
        if isinstance(value, str):
            self._texts.setdefault(name, []).append(value)
            return len(value.encode(errors="surrogatepass"))
        if isinstance(value, list):
            self._lists.setdefault(name, []).extend(value)
        elif isinstance(value, dict):
            merged = self._objects.setdefault(name, {})
            for key, entry in value.items():
                appended = key in _APPENDED and isinstance(entry, str)
                merged[key] = merged.get(key, "") + entry if appended else entry
        return 0

    def whole(self, index: int) -> dict[str, Any]:
        """The choice as a whole answer holds it."""
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        content, refusal = texts.pop("content", None), texts.pop("refusal", None)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content or (None if self._calls or refusal else content),
            "refusal": refusal or None,
            **texts,
            **self._lists,
            **self._objects,
        }
        if self._calls is not None:
            message["tool_calls"] = self._calls.whole()
        logprobs: dict[str, list[Any] | None] | None = None
        if self._logprobs is not None:
            logprobs = {"content": None, "refusal": None, **self._logprobs}
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.finish or "stop",
            **self._extra,
        }


class ChatAssembly:
    """Collects chunks; unknown fields are kept, the last value of each."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.output_bytes = 0

    def add(self, chunk: dict[str, Any]) -> None:
        """Merge one chunk."""
        for name, value in chunk.items():
            if name not in {"choices", "usage", "object"} and value is not None and value != "":
                self._head[name] = value
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            if type(index) is not int:
                raise TypeError("a choice's index is no number")
            known = self._choices.get(index)
            if known is None:
                known = self._choices[index] = _Choice()
            self.output_bytes += known.add(choice)

    @property
    def finished(self) -> bool:
        """Whether there are choices and each has its finish reason."""
        return bool(self._choices) and all(choice.finish for choice in self._choices.values())

    @property
    def finish(self) -> tuple[str, ...]:
        """The finish reasons in the order of the choices."""
        return tuple(self._choices[index].finish or "" for index in sorted(self._choices))

    def whole(self, usage: dict[str, Any] | None) -> dict[str, Any]:
        """The whole body, with `usage` as reported. Raises EmptyError where no choice came."""
        if not self._choices:
            raise EmptyError("the stream ended without a choice")
        document = {
            "id": "",
            "object": "chat.completion",
            "created": 0,
            "model": "",
            **self._head,
            "choices": [self._choices[index].whole(index) for index in sorted(self._choices)],
        }
        if usage is not None:
            document["usage"] = usage
        return document
