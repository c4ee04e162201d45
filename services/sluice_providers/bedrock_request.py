"""Translates an OpenAI chat request into one of Bedrock's Converse."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sluice_providers import chat_request as asked
from sluice_providers.adapter import UntranslatableError
from sluice_providers.bedrock_content import CACHE_POINT, conversation

_READ: Final = frozenset({"thinking", "service_tier", "top_k"})
_EFFORTS: Final = {"minimal": "low"}
_NOVA: Final = {"minimal": "low", "xhigh": "high", "max": "high"}


def translate(
    document: dict[str, Any], *, model: str, default_max_tokens: int | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The Converse request for an OpenAI one, and warnings. Raises UntranslatableError."""
    asked.refuse(document)
    asked.one_choice(document)
    asked.calls_in_parallel(document)
    warnings = list(asked.left_out(document, _READ))
    system, messages = conversation(document)
    request: dict[str, Any] = {"messages": messages}
    if system:
        request["system"] = system
    inference = _inference(document, default_max_tokens)
    if inference:
        request["inferenceConfig"] = inference
    _tools(document, request)
    _output(document, request, warnings)
    _reasoning(document, request, model)
    if document.get("top_k") is not None:
        _more(request, {"top_k": document["top_k"]})
    tier = document.get("service_tier")
    if tier in {"default", "flex", "priority", "reserved"}:
        request["serviceTier"] = {"type": tier}
    elif tier not in {None, "auto"}:
        warnings.append(f"service_tier: {tier!r} is not known to this provider and was left out")
    return request, tuple(warnings)


def _more(request: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Fields that only some models have. A caller's own do not go on: they could lift the limit that it is held to."""
    request.setdefault("additionalModelRequestFields", {}).update(fields)


def _inference(document: Mapping[str, Any], default_max_tokens: int | None) -> dict[str, Any]:
    inference: dict[str, Any] = {}
    limit = asked.limit(document, default_max_tokens)
    if limit is not None:
        inference["maxTokens"] = limit
    for ours, theirs in (("temperature", "temperature"), ("top_p", "topP")):
        if document.get(ours) is not None:
            inference[theirs] = document[ours]
    stops = asked.stops(document)
    return inference | ({"stopSequences": stops} if stops else {})


def _tools(document: Mapping[str, Any], request: dict[str, Any]) -> None:
    choice = asked.choice(document)
    functions = asked.functions(document)
    if choice is not None and choice.mode == "none" and functions:
        if any("toolUse" in block for m in request["messages"] for block in m["content"]):
            reason = "this provider may always call the tools of a conversation that has calls"
            raise UntranslatableError("tool_choice", reason)
        return
    if choice is not None and (len(choice.names) > 1 or (choice.names and choice.mode == "auto")):
        functions = [function for function in functions if function.name in choice.names]
    if not functions:
        return
    config: dict[str, Any] = {"tools": [tool for f in functions for tool in _tool(f)]}
    if choice is not None:
        config["toolChoice"] = _choice(choice)
    request["toolConfig"] = config


def _tool(function: asked.Function) -> list[dict[str, Any]]:
    schema = function.parameters or {"type": "object", "properties": {}}
    spec: dict[str, Any] = {"name": function.name, "inputSchema": {"json": schema}}
    if function.description:
        spec["description"] = function.description
    if function.strict is not None:
        spec["strict"] = function.strict
    return [{"toolSpec": spec}, *([CACHE_POINT] if function.cache_control else [])]


def _choice(choice: asked.Choice) -> dict[str, Any]:
    if choice.mode != "required":
        return {"auto": {}}
    return {"tool": {"name": choice.names[0]}} if len(choice.names) == 1 else {"any": {}}


def _output(document: Mapping[str, Any], request: dict[str, Any], warnings: list[str]) -> None:
    schema = asked.output_schema(document)
    if schema is None:
        return
    if not schema:
        # OpenAI requires that the prompt itself asks for JSON here, so the model is told anyway.
        warnings.append("response_format: json_object is left to the prompt at this provider")
        return
    definition = {"schema": orjson.dumps(schema["schema"]).decode()}
    definition |= {name: schema[name] for name in ("name", "description") if schema.get(name)}
    structure = {"type": "json_schema", "structure": {"jsonSchema": definition}}
    request["outputConfig"] = {"textFormat": structure}


def _reasoning(document: Mapping[str, Any], request: dict[str, Any], model: str) -> None:
    """Reasoning goes by the model's maker: Converse itself has a word for it with Anthropic's alone."""
    if document.get("thinking") is not None:
        _more(request, {"thinking": document["thinking"]})
    effort = asked.effort(document)
    if effort is None:
        return
    if "anthropic." in model and effort == "none":
        _more(request, {"thinking": {"type": "disabled"}})
    elif "anthropic." in model:
        output = request.setdefault("outputConfig", {})
        output["effort"] = _EFFORTS.get(effort, effort)
    elif "openai." in model and effort != "none":
        _more(request, {"reasoning_effort": effort})
    elif "nova" in model:
        level = {"type": "enabled", "maxReasoningEffort": _NOVA.get(effort, effort)}
        _more(request, {"reasoningConfig": {"type": "disabled"} if effort == "none" else level})
    else:
        raise UntranslatableError("reasoning_effort", "this model has nothing like it")
