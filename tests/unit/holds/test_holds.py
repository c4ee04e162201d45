"""What a set of holds stops."""

from datetime import UTC, datetime

import pytest

from sluice_cli.holds import checked
from sluice_cli.output import Refused
from sluice_core.holds.model import Hold, HoldKind, Holds
from sluice_core.holds.service import HeldNow
from sluice_core.jobs.model import Facts
from sluice_schemas.classes import JobClass

FACTS = Facts(tenant="acme", model="fast", job_class=JobClass.BULK, run_id="nightly")


def holding(kind: HoldKind, name: str, tenant: str | None = None) -> Hold:
    return Hold(kind=kind, name=name, tenant=tenant, at=datetime.now(UTC), actor="me")


@pytest.mark.parametrize(
    ("kind", "name", "stopped"),
    [
        ("tenant", "acme", True),
        ("tenant", "other", False),
        ("class", "bulk", True),
        ("class", "realtime", False),
        ("class", "from-a-later-build", False),
        ("model", "fast", True),
        ("model", "slow", False),
        ("account", "openai", True),
        ("account", "azure", False),
    ],
)
def test_a_lane_is_held_by_any_of_its_names(kind: HoldKind, name: str, stopped: bool) -> None:
    holds = Holds.of([holding(kind, name)])
    assert holds.lane(JobClass.BULK, "acme", "fast", frozenset({"openai"})) is stopped
    assert not holds.run(FACTS)


def test_a_run_is_its_tenants() -> None:
    assert Holds.of([holding("run", "nightly", "acme")]).run(FACTS)
    assert not Holds.of([holding("run", "nightly", "other")]).run(FACTS)
    assert not Holds.of([holding("run", "nightly", "acme")]).run(Facts(tenant="acme"))
    assert not Holds()


class Told:
    """A repository of holds that counts how often it is read."""

    def __init__(self) -> None:
        self.holds = Holds()
        self.reads = 0

    async def current(self) -> Holds:
        self.reads += 1
        return self.holds


async def test_holds_are_read_when_the_version_moves() -> None:
    told = Told()
    accounts = {"fast": frozenset({"openai"}), "either": frozenset({"openai", "azure"})}
    now = HeldNow(told, accounts.get)  # type: ignore[arg-type]
    assert not now.known
    assert not await now.refresh(3)
    assert now.known
    assert not now.job(FACTS)
    told.holds = Holds(accounts=frozenset({"openai"}))
    assert not await now.refresh(3)
    assert await now.refresh(4)
    assert now.job(FACTS)
    assert now.lane(JobClass.REALTIME, "any", "fast")
    assert not now.lane(JobClass.REALTIME, "any", "either"), "its other account is not held"
    told.holds = Holds(runs=frozenset({("acme", "nightly")}))
    assert await now.refresh(5)
    assert now.job(FACTS)
    assert now.run(FACTS)
    assert not now.lane(JobClass.BULK, "acme", "fast")
    assert not await now.refresh(6)
    assert told.reads == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("key", "k", None), "cannot be held"),
        (("class", "urgent", None), "no class"),
        (("run", "nightly", None), "--tenant"),
        (("tenant", "acme", "acme"), "goes with a run"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    words: tuple[str, str, str | None], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        checked(*words)
    assert checked("run", "nightly", "acme") == "run"
