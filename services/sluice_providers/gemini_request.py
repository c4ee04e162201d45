"""Translates an OpenAI chat request into Gemini's."""

import re
from collections.abc import Mapping
from typing import Any, Final

from sluice_providers import chat_request as asked
from sluice_providers.adapter import UntranslatableError
from sluice_providers.gemini_content import conversation

_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
}
_READ: Final = frozenset({*_SAMPLING, "thinking", "safety_settings"})
_BUDGETS: Final = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
"""Thinking tokens by effort, as Google's own OpenAI-compatible endpoint sets them."""
_LEVELS: Final = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_BY_BUDGET: Final = re.compile(r"gemini-(1|2)\b|gemini-(1|2)\.")


def translate(
    document: dict[str, Any], *, model: str, default_max_tokens: int | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The Gemini request for an OpenAI one, and warnings. Raises UntranslatableError."""
    asked.refuse(document)
    asked.calls_in_parallel(document)
    system, contents = conversation(document, model=model)
    request: dict[str, Any] = {"contents": contents}
    if system:
        request["systemInstruction"] = {"parts": system}
    generation = _generation(document, default_max_tokens)
    _thinking(document, generation, model)
    if generation:
        request["generationConfig"] = generation
    _tools(document, request)
    if document.get("safety_settings"):
        request["safetySettings"] = document["safety_settings"]
    return request, asked.left_out(document, _READ)


def _generation(document: Mapping[str, Any], default_max_tokens: int | None) -> dict[str, Any]:
    generation = {
        theirs: document[ours]
        for ours, theirs in _SAMPLING.items()
        if document.get(ours) is not None and (ours, document[ours]) != ("n", 1)
    }
    limit = asked.limit(document, default_max_tokens)
    if limit is not None:
        generation["maxOutputTokens"] = limit
    stops = asked.stops(document)
    if stops:
        generation["stopSequences"] = stops
    schema = asked.output_schema(document)
    if schema is not None:
        generation["responseMimeType"] = "application/json"
    if schema:
        # The older `responseSchema` takes a subset of OpenAPI and refuses what OpenAI's strict schemas must hold.
        generation["responseJsonSchema"] = schema["schema"]
    return generation


def _thinking(document: Mapping[str, Any], generation: dict[str, Any], model: str) -> None:
    effort = asked.effort(document)
    match document.get("thinking"):
        case {"type": "enabled", "budget_tokens": int(budget)}:
            generation["thinkingConfig"] = {"thinkingBudget": budget, "includeThoughts": True}
            return
        case {"type": "disabled"}:
            effort = "none"
    if effort is None:
        return
    if _BY_BUDGET.search(model):
        generation["thinkingConfig"] = {"thinkingBudget": _BUDGETS[effort]}
    elif effort == "none":
        raise UntranslatableError("reasoning_effort", "this model always reasons")
    else:
        generation["thinkingConfig"] = {"thinkingLevel": _LEVELS.get(effort, "HIGH")}
    if effort != "none":
        generation["thinkingConfig"]["includeThoughts"] = True


def _tools(document: Mapping[str, Any], request: dict[str, Any]) -> None:
    functions = asked.functions(document)
    if not functions:
        return
    declared = []
    for function in functions:
        entry: dict[str, Any] = {"name": function.name}
        if function.description:
            entry["description"] = function.description
        if function.parameters:
            entry["parametersJsonSchema"] = function.parameters
        declared.append(entry)
    request["tools"] = [{"functionDeclarations": declared}]
    choice = asked.choice(document)
    if choice is None:
        return
    calling: dict[str, Any] = {
        "mode": {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]
    }
    if choice.names:
        # VALIDATED is AUTO that keeps to the allowed names.
        calling["mode"] = "ANY" if choice.mode == "required" else "VALIDATED"
        calling["allowedFunctionNames"] = list(choice.names)
    request["toolConfig"] = {"functionCallingConfig": calling}
