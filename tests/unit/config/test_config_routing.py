"""Routing in sluice.yaml: what is accepted, and what each mistake is told, with its line."""

import pytest
from tests.unit.routing.plans import text_of

from sluice_core.config.load import ConfigError, parse_config

GOOD = """
strategy: weighted
targets:
  - {account: a, model: m1, name: main, weight: 3, region: eu, tags: [private], tier: flex, quality: 0.8,
     capabilities: {context: 128000, vision: true, tools: true, json: true, streaming: true}}
  - {account: b, model: m2}
routes:
  - {when: {tenants: [acme], tags: {team: "ml*"}, max_tokens: 100}, use: [main], strategy: priority}
split: {by: user, arms: [{name: x, share: 0.5, use: [main]}, {name: y, share: 0.5, use: [b/m2]}]}
fallback: {on: [unavailable, invalid_response], context_length: [b]}
off_peak: {classes: [bulk], hours: {start: "22:00", end: "06:00", zone: Europe/Berlin}}
"""
TENANTS = "tenants: {acme: {residency: [eu, private]}}"


def problems(model: str, tenants: str = "tenants: {acme: {}}") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text_of(model, tenants=tenants), {})
    return list(caught.value.problems)


def test_everything_that_can_be_said() -> None:
    model = parse_config(text_of(GOOD, tenants=TENANTS), {}).models["fast"]
    assert model.targets[0].capabilities.json_output is True
    assert model.fallback.context_length == ("b",)
    assert model.off_peak is not None


TWO_ARMS = """targets: [{{account: a}}, {{account: b}}]
split: {{arms: [{{name: x, share: 0.5, use: [a]}}, {{name: {name}, share: 0.4, use: [b]}}]}}"""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "targets: [{account: a}]\nroutes: [{when: {classes: [bulk]}, use: [bee]}]",
            'routes[0].use[0]: no target "bee" in this model; there are: a',
        ),
        (
            "targets: [{account: a}]\nroutes: [{when: {}, use: [a]}]",
            "routes[0].when: says nothing, so that every job meets it: name tenants, classes, tags or a size",
        ),
        (
            "targets: [{account: a}]\nroutes: [{when: {tenants: [acmee]}, use: [a]}]",
            'routes[0].when.tenants[0]: no tenant "acmee"; did you mean "acme"?',
        ),
        (
            'targets: [{account: a}]\nroutes: [{when: {projects: ["a*b"]}, use: [a]}]',
            'routes[0].when.projects[0]: "*" counts only at the end; write "a*"',
        ),
        (
            "targets: [{account: a}]\nroutes: [{when: {min_tokens: 9, max_tokens: 3}, use: [a]}]",
            "routes[0].when.min_tokens: is above max_tokens (3): no job can meet it",
        ),
        (TWO_ARMS.format(name="x"), 'split.arms[1].name: an arm "x" stands here already'),
        (
            TWO_ARMS.format(name="y"),
            "split.arms: the shares add up to 0.9; write shares whose sum is 1",
        ),
        (
            "strategy: weighted\ntargets: [{account: a, model: m}, {account: a, model: m}]",
            "targets[1]: stands here already (targets[0]): give one of them a name",
        ),
        (
            "targets: [{account: a}]\nescalation: {tiers: [[a], [z]]}",
            'escalation.tiers[1][0]: no target "z" in this model; there are: a',
        ),
        (
            "targets: [{account: a}, {account: b}]\nescalation: {tiers: [[a], [b, a]]}",
            'escalation.tiers[1][1]: "a" stands in a tier below: what did not pass would be asked again',
        ),
        (
            "targets: [{account: a}]\nhedge: {after: 1s}",
            "hedge: needs another target to ask: the model has one",
        ),
        (
            "targets: [{account: a}]\nescalation: {tiers: [[a]]}",
            "escalation.tiers: tuple should have at least 2 items after validation, not 1",
        ),
        (
            (
                "targets: [{account: a}, {account: b}]\n"
                "escalation: {tiers: [[a], [b]], check: {schema: false, refusal: false}}"
            ),
            "escalation.check: checks nothing, so that no job goes up: name schema, refusal or a judge",
        ),
        (
            (
                "targets: [{account: a}, {account: b}]\nescalation: {tiers: [[a], [b]]}\n"
                "split: {arms: [{name: x, share: 0.5, use: [a]}, {name: y, share: 0.5, use: [b]}]}"
            ),
            "escalation: stands beside split: the arms would decide, and never the tiers; leave one out",
        ),
        (
            "targets: [{account: a}]\nroutes: [{when: {languages: [dd]}, use: [a]}]",
            'routes[0].when.languages[0]: no language "dd" is told apart; write an ISO 639-1 code, such as de',
        ),
        (
            "targets: [{account: a}]\noff_peak: {hours: {start: '06:00', end: '06:00'}}",
            "off_peak.hours.end: is the start: no hour lies between them",
        ),
        (
            "targets: [{account: a}]\noff_peak: {hours: {start: '06:00', end: '07:00', zone: Berlin}}",
            'off_peak.hours.zone: no time zone "Berlin"; did you mean "Europe/Berlin"?',
        ),
        (
            "strategy: weighted\ntargets: [{account: a, weight: 0}]",
            "targets[0].weight: input should be greater than 0",
        ),
        (
            "targets: [{account: a}]\nfallback: {content_filter: [b]}",
            'fallback.content_filter[0]: no target "b" in this model; there are: a',
        ),
    ],
)
def test_mistakes_are_told_with_their_line(model: str, said: str) -> None:
    assert f"sluice.yaml:8: models.fast.{said}" in problems(model)


def test_a_region_that_no_target_is_in() -> None:
    found = problems("targets: [{account: a, region: eu}]", "tenants: {acme: {residency: [us]}}")
    assert found == [
        'sluice.yaml:8: tenants.acme.residency[0]: no target has "us" as its region or among its tags; there are: eu'
    ]
