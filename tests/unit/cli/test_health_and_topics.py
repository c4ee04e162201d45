from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sluice_core.config.load import parse_config
from sluice_core.health.model import Broker, Ledger, Presence, Server
from sluice_core.health.policy import (
    broker_findings,
    healthy,
    key_findings,
    ledger_findings,
    price_findings,
    server_findings,
)
from sluice_core.health.repository import partitions_needed
from sluice_core.keys.model import Seals
from sluice_core.pricing.book import PriceBook
from sluice_core.topics.model import Difference
from sluice_core.topics.policy import declared_reply_topics, differences, grants, wanted

_SERVER = Server(
    answer_ms=1.0,
    version=150_004,
    version_text="15.4",
    clock_ahead_s=0.01,
    synchronous_commit="on",
    fsync=True,
    full_page_writes=True,
    in_recovery=False,
    standbys=(),
    oldest_snapshot_s=0.0,
)
_ALIVE = (
    Presence(name="w", kind="worker", pool="default", beat_age_s=0.5),
    Presence(name="k", kind="keeper", pool="default", beat_age_s=0.5),
)
_LEDGER = Ledger(revision="0001", head="0001", processes=_ALIVE)
_BROKER = Broker(
    answer_ms=1.0, brokers=3, recent=True, clock_ahead_s=None, topics=9, differences=()
)


def test_what_is_right_is_ok() -> None:
    found = [*server_findings(_SERVER), *ledger_findings(_LEDGER), *broker_findings(_BROKER)]
    assert {finding.level for finding in found} == {"ok"}
    assert healthy(found)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"version": 140_009}, "postgres version"),
        ({"synchronous_commit": "off"}, "synchronous_commit"),
        ({"fsync": False}, "fsync"),
        ({"full_page_writes": False}, "full_page_writes"),
        ({"in_recovery": True}, "postgres role"),
        ({"standbys": ("async", "async")}, "failover"),
        ({"clock_ahead_s": -31.0}, "postgres clock"),
    ],
)
def test_what_loses_jobs_is_a_problem(change: dict[str, object], check: str) -> None:
    found = server_findings(replace(_SERVER, **change))  # type: ignore[arg-type]
    (problem,) = [finding for finding in found if finding.level == "problem"]
    assert problem.check == check
    assert problem.advice


@pytest.mark.parametrize("standbys", [("sync", "async"), ("quorum",), ()])
def test_a_synchronous_standby_is_enough(standbys: tuple[str, ...]) -> None:
    assert healthy(server_findings(replace(_SERVER, standbys=standbys)))


def test_what_may_not_be_seen_is_a_warning() -> None:
    found = server_findings(replace(_SERVER, standbys=(None,), oldest_snapshot_s=700.0))
    assert [f.check for f in found if f.level == "warning"] == ["failover", "oldest snapshot"]
    assert healthy(found)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"head": "0002"}, "migrations"),
        ({"revision": "0003", "head": "0002"}, "migrations"),
        ({"partitions_missing": ("sluice.requests_20261101",)}, "partitions"),
        ({"processes": _ALIVE[:1]}, "keepers"),
        ({"processes": (replace(_ALIVE[0], beat_age_s=60.0), _ALIVE[1])}, "workers"),
        ({"outbox_age_s": 500.0}, "outbox"),
    ],
)
def test_what_is_wrong_in_the_ledger(change: dict[str, object], check: str) -> None:
    found = ledger_findings(replace(_LEDGER, **change))  # type: ignore[arg-type]
    (problem,) = [finding for finding in found if finding.level == "problem"]
    assert problem.check == check
    assert problem.advice


def test_no_ledger_is_one_finding() -> None:
    (finding,) = ledger_findings(Ledger(revision=None, head="0001"))
    assert finding.advice == "run `sluice migrate`"


def test_differences_of_topics() -> None:
    config = parse_config("tenants: {a: {}}\n", {})
    specs = wanted(config)
    found = {spec.name: dict(spec.settings) for spec in specs}
    assert differences(specs, found) == []
    found["llm.jobs.bulk.v1"]["retention.ms"] = "1"
    del found["llm.results.a.v1"]
    different = differences(specs, found)
    broken = broker_findings(replace(_BROKER, differences=tuple(different)))
    assert (
        Difference(topic="llm.jobs.bulk.v1", setting="retention.ms", wanted="-1", found="1")
        in different
    )
    assert [f.check for f in broken if f.level == "problem"] == ["topics", "topic llm.jobs.bulk.v1"]


def test_a_declared_reply_topic_that_is_missing_is_its_owners_to_create() -> None:
    config = parse_config("tenants: {a: {reply_topics: [mine, other]}, b: {}}\n", {})
    declared = declared_reply_topics(config)
    assert declared == (("a", "mine"), ("a", "other"))
    found = broker_findings(replace(_BROKER, reply_topics_missing=declared[:1]))
    (problem,) = [finding for finding in found if finding.level == "problem"]
    assert (problem.check, problem.message) == ("reply topics", "missing: mine (of a)")
    assert "their owners must create them" in problem.advice


def test_keys_of_another_master_key_are_a_problem() -> None:
    (fine,) = key_findings(Seals(current=("sgk_3",)), previous_set=False)
    assert (fine.level, "PREVIOUS" in fine.message) == ("ok", False)
    seals = Seals(neither=("sgk_1", "sgk_2"), previous=("sgk_3",))
    (problem,) = key_findings(seals, previous_set=True)
    assert problem.level == "problem"
    assert problem.message.endswith("sgk_1, sgk_2")


def test_keys_that_need_the_previous_master_key_are_counted() -> None:
    (needed,) = key_findings(Seals(previous=("sgk_1", "sgk_2")), previous_set=True)
    assert (needed.level, needed.message) == (
        "warning",
        "2 still need SLUICE_MASTER_KEY_PREVIOUS",
    )
    assert "sluice keys rotate-master" in needed.advice
    (done,) = key_findings(Seals(current=("sgk_1",)), previous_set=True)
    assert (done.level, "unset it" in done.message) == ("ok", True)


def test_models_without_a_known_price_are_named_with_what_to_write() -> None:
    config = parse_config(
        'providers: {here: {kind: openai, base_url: "http://x"}}\n'
        "models:\n"
        '  "*": {targets: [{account: here}]}\n'
        "  known: {targets: [{account: here, model: gpt-4o}]}\n"
        "  own: {targets: [{account: here}], prices: {input: 1}}\n"
        "  free: {targets: [{account: here, model: gpt-4o}, {account: here, model: tuned-77}]}\n",
        {},
    )
    (finding,) = price_findings(config, PriceBook(), datetime(2026, 11, 1, tzinfo=UTC))
    assert (finding.check, finding.level) == ("price of free", "warning")
    assert "tuned-77 at here (openai)" in finding.message
    assert "models.free.prices" in finding.advice


def test_rights_are_those_of_the_contract() -> None:
    text = (
        "tenants: {a: {reply_topics: [mine]}, b: {}}\n"
        "intake: {topics: [{name: b.jobs, class: bulk, tenant: b}], unsigned: 'tenant:a'}\n"
    )
    given = grants(parse_config(text, {}))
    may = {(g.principal, g.name): g.operations for g in given}
    assert may["sluice-worker", "mine"] == ("Write", "Describe")
    assert may["sluice-worker", "b.jobs"] == ("Read", "Describe")
    assert may["a", "llm.jobs.bulk.v1"] == ("Write", "Describe")
    assert ("b", "llm.jobs.bulk.v1") not in may
    assert may["b", "b.jobs"] == ("Write", "Describe")
    readers = {
        g.principal for g in given if g.name == "llm.deadletter.v1" and "Read" in g.operations
    }
    assert readers == {"sluice-operator"}
    assert ("a", "llm.results.b.v1") not in may
    assert "--topic 'mine'" in next(g.command() for g in given if g.name == "mine")


def test_the_partitions_of_a_turn_of_the_month() -> None:
    needed = partitions_needed(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))
    assert "sluice.requests_20261201" in needed
    assert {"finance.usage_202611", "finance.usage_202612"} <= set(needed)
    assert "sluice.jobs_past_20261130" in needed
