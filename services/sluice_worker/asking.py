"""What a job asks of a target, read from its facts and from its body's bytes."""

import re
from collections.abc import Collection, Mapping
from typing import Final

import orjson

from sluice_core.admission.expectations import BYTES_A_TOKEN, Expectations
from sluice_core.jobs.model import Job
from sluice_core.pricing.bounds import asked_output
from sluice_core.routing.model import Ask, Need

_CACHE_KEY: Final = re.compile(rb'"prompt_cache_key":"((?:[^"\\]|\\.){1,256})"')
_TIER_MARK: Final = b'"service_tier":'
_TIER: Final = re.compile(r"[a-z]{1,32}")
_IMAGES: Final = (b'"image_url"', b'"input_image"')
_TOOLS: Final = b'"tools":['
_FORMATS: Final = (b'"response_format":{', b'"format":{')
"""Of chat, and of responses."""
_JSON: Final = (b'"json_schema"', b'"json_object"')


def needs_of(body: bytes, *, streams: bool) -> Need:
    """What a target must be able to do; `body` is JSON without white space.

    Bytes that look like a need inside a text count as one: the job then goes where it can be served in any case.
    """
    needs = Need.STREAMING if streams else Need.NOTHING
    if any(mark in body for mark in _IMAGES):
        needs |= Need.VISION
    if _TOOLS in body:
        needs |= Need.TOOLS
    if any(mark in body for mark in _FORMATS) and any(mark in body for mark in _JSON):
        needs |= Need.JSON
    return needs


def asked_tier(body: bytes) -> str | None:
    """The service tier that a job asks for itself, as far as it has a price of its own.

    The request's own field alone: what its metadata or a tool calls so is no word to the provider.
    """
    if _TIER_MARK not in body:
        return None
    tier = orjson.loads(body).get("service_tier")
    if not isinstance(tier, str) or tier == "auto" or not _TIER.fullmatch(tier):
        return None
    return tier


def affinity_of(job: Job) -> str | None:
    """What keeps jobs at one account: what the job says, its run, or the key it gives the provider's prompt cache."""
    facts = job.facts
    if facts.affinity or facts.run_id:
        return f"{facts.tenant}/{facts.affinity or facts.run_id}"
    found = _CACHE_KEY.search(job.body)
    return None if found is None else f"{facts.tenant}/{found[1].decode(errors='replace')}"


def ask_of(
    job: Job,
    expectations: Expectations,
    *,
    limited: bool,
    residency: Mapping[str, frozenset[str]],
    tried: Collection[str],
    level: int = 0,
) -> Ask:
    """The job as its way depends on it; `limited`: a target may not be able to serve it, so its needs count."""
    facts, body = job.facts, job.body
    most = 0
    needs = Need.NOTHING
    if limited:
        asked, choices = asked_output(body)
        most = (asked or 0) * choices
        needs = needs_of(body, streams=job.streams)
    return Ask(
        tenant=facts.tenant,
        project=facts.project,
        app=facts.app,
        user=facts.user_id,
        tags=tuple(facts.tags.items()),
        job_class=facts.job_class.label,
        operation=facts.operation,
        input_tokens=len(body) // BYTES_A_TOKEN + 1,
        output_tokens=expectations.output_tokens(
            facts.tenant, facts.model or "", most_output=most or 2**31
        ),
        most_output=most,
        needs=needs,
        regions=residency.get(facts.tenant, frozenset()),
        key=affinity_of(job),
        job=str(job.id),
        tried=frozenset(tried),
        level=level,
        body=body,
        deadline=job.deadline,
    )
