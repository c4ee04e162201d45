"""Policies for tests, written as people write them."""

from textwrap import indent

from sluice_core.config.load import parse_config
from sluice_core.policies.model import Ask, Subject
from sluice_core.policies.policy import Permissions
from sluice_schemas.classes import JobClass

BASE = """
providers: {openai: {kind: openai, base_url: "http://x"}}
models: {"*": {targets: [{account: openai}]}}
intake:
  topics: [{name: own.jobs, class: bulk, tenant: acme}, {name: a, class: bulk, tenant: acme}]
tenants:
  free: {}
  acme:
"""


def permissions(tenant: str) -> Permissions:
    """The permissions of a tenant `acme` whose section is written in YAML."""
    return Permissions.from_config(parse_config(BASE + indent(tenant, "    "), {}))


CALLER = Subject(
    tenant="acme", team="ml", project="search", app="web", user="jo", key_id="sgk_0123456789ab"
)


def ask(model: str = "fast", **more: object) -> Ask:
    return Ask(
        model=model,
        operation="chat",
        job_class=JobClass.BULK,
        topic="llm.jobs.bulk.v1",
        **more,  # type: ignore[arg-type]
    )
