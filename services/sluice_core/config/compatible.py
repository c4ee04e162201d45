"""Where providers that speak OpenAI's form are reached, and in what they differ from it: one row a provider."""

from collections.abc import Mapping
from typing import Final, Literal

from sluice_core.config.base import Section


class Quirks(Section):
    """In what a server differs from OpenAI. The defaults are what most compatible servers do.

    `max_tokens_field`: what a limit on the answer is called. `stream_usage`: whether `stream_options.include_usage` is
    understood. `developer_role`: whether there is one beside `system`. `reasoning_field`: under what name thoughts of
    earlier turns go back; answers are read under either. `reasoning_apart`: completion tokens leave reasoning tokens
    out. `required_tool_choice`: the word for OpenAI's `required`. `renumber_tool_calls`: parallel calls may all come
    under one index. `rename` and `leave_out` are fields of a request, `message_leave_out` of its messages.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    developer_role: bool = False
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    reasoning_apart: bool = False
    required_tool_choice: str = "required"
    renumber_tool_calls: bool = True
    rename: dict[str, str] = {}
    leave_out: tuple[str, ...] = ()
    message_leave_out: tuple[str, ...] = ()


_NATIVE: Final = Quirks(
    max_tokens_field="max_completion_tokens", developer_role=True, renumber_tool_calls=False
)
NATIVE: Final[Mapping[str, Quirks]] = {"openai": _NATIVE, "azure.ai.openai": _NATIVE}
"""Those whose form it is: what goes through them is not touched, unless `quirks` says so."""

ROWS: Final[Mapping[str, tuple[str | None, Quirks]]] = {
    "vllm": ("http://localhost:8000/v1", Quirks()),
    "ollama": ("http://localhost:11434/v1", Quirks(reasoning_field="reasoning")),
    "llama_cpp": ("http://localhost:8080/v1", Quirks()),
    "together": ("https://api.together.xyz/v1", Quirks(reasoning_field="reasoning")),
    "groq": (
        "https://api.groq.com/openai/v1",
        Quirks(max_tokens_field="max_completion_tokens", reasoning_field="reasoning"),
    ),
    "deepseek": ("https://api.deepseek.com/v1", Quirks()),
    "fireworks": ("https://api.fireworks.ai/inference/v1", Quirks()),
    "x_ai": (
        "https://api.x.ai/v1",
        Quirks(max_tokens_field="max_completion_tokens", reasoning_apart=True),
    ),
    "openrouter": (
        "https://openrouter.ai/api/v1",
        Quirks(developer_role=True, reasoning_field="reasoning"),
    ),
    "mistral_ai": (
        "https://api.mistral.ai/v1",
        Quirks(
            # It refuses what it does not know, and sends usage without being asked.
            stream_usage=False,
            required_tool_choice="any",
            rename={"seed": "random_seed"},
            leave_out=("user", "store", "service_tier", "safety_identifier", "verbosity"),
            message_leave_out=(
                "refusal",
                "reasoning_content",
                "reasoning",
                "annotations",
                "audio",
                "function_call",
            ),
        ),
    ),
}
"""By OpenTelemetry's `gen_ai.provider.name` where it has one."""


def quirks_of(provider: str, given: Quirks | None) -> Quirks | None:
    """A provider's quirks with what is configured over them; None where the form is its own and nothing is."""
    if given is None and provider in NATIVE:
        return None
    row = NATIVE.get(provider) or ROWS.get(provider, (None, Quirks()))[1]
    if given is None:
        return row
    return row.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})
