"""The mock's plain HTTP answers: JSON, refusals, and connections that are cut."""

import time
from email.utils import formatdate

from aiohttp import web

from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Asked, Form

_JSON = "application/json"


class CutError(Exception):
    """The connection was cut on purpose."""


def answer_json(
    content: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=content, status=status, headers={"content-type": _JSON} | (headers or {})
    )


def cut(request: web.BaseRequest) -> None:
    """Reset the connection and leave the handler."""
    if request.transport is not None:
        request.transport.abort()
    raise CutError


def refusal(
    request: web.BaseRequest, behaviour: Behaviour, form: Form, asked: Asked
) -> web.Response | None:
    """The error answer that the behaviour, the key or the request itself calls for."""
    headers = {"x-request-id": "req_refused"}
    if behaviour.status:
        headers |= _retry_after(behaviour.retry_after)
        return answer_json(form.error(behaviour.status, behaviour.code), behaviour.status, headers)
    if behaviour.key and form.key(request) != behaviour.key:
        return answer_json(form.error(401, ""), 401, headers)
    complaint = form.complaint(request, asked)
    return None if complaint is None else answer_json(form.error(400, "", complaint), 400, headers)


def _retry_after(text: str) -> dict[str, str]:
    kind, _, value = text.rpartition(":")
    if not text:
        return {}
    if kind == "date":
        return {"retry-after": formatdate(time.time() + float(value), usegmt=True)}
    if kind == "xms":
        return {"x-ms-retry-after-ms": value}
    if kind == "ms":
        return {"retry-after-ms": value}
    return {"retry-after": value}
