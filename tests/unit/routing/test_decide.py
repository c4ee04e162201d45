"""Which target a job goes to: each strategy, each reason to leave a target out, and that a decision is always one."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.routing.plans import ACCOUNTS, chosen, moment_of, plan_from, spread

from sluice_core.routing.model import Ask, Need, Now
from sluice_core.routing.policy import decide

TARGETS = "targets: [{account: a, model: m}, {account: b, model: m}, {account: c, model: m}]"
WEIGHTED = (
    "targets: [{account: a, model: m, weight: 2}, {account: b, model: m}, {account: c, model: m}]"
)


def test_priority_takes_the_first_that_is_open() -> None:
    plan = plan_from(TARGETS)
    assert chosen(plan, Ask()) == "a"
    shut = Now(shut_until=9.0, why="open")
    assert chosen(plan, Ask(), {"a": shut}) == "b"
    assert chosen(plan, Ask(), {"a": shut, "b": shut}) == "c"
    assert chosen(plan, Ask(), {"a": shut}, now=9.0) == "a"


def test_weighted_goes_by_the_weights() -> None:
    plan = plan_from(f"strategy: weighted\n{WEIGHTED}")
    assert spread(plan, [Ask()] * 400) == {"a": 200, "b": 100, "c": 100}


def test_cheapest_counts_what_the_answer_will_likely_cost() -> None:
    prices = {"a": (1.0, 10.0), "b": (4.0, 2.0), "c": (100.0, 100.0)}
    plan = plan_from(f"strategy: cheapest\n{TARGETS}", prices=prices)
    assert chosen(plan, Ask(input_tokens=1000, output_tokens=10)) == "a"
    assert chosen(plan, Ask(input_tokens=10, output_tokens=1000)) == "b"


def test_quality_takes_the_best_and_among_equals_the_quietest() -> None:
    plan = plan_from(
        "strategy: quality\n"
        "targets: [{account: a, quality: 0.5}, {account: b, quality: 0.9}, {account: c, quality: 0.9}]"
    )
    assert chosen(plan, Ask(), {"b": Now(in_flight=3)}) == "c"


def test_least_busy_goes_by_what_is_in_flight_a_weight() -> None:
    plan = plan_from(f"strategy: least_busy\n{WEIGHTED}")
    assert (
        chosen(plan, Ask(), {"a": Now(in_flight=3), "b": Now(in_flight=2), "c": Now(in_flight=2)})
        == "a"
    )
    assert (
        chosen(plan, Ask(), {"a": Now(in_flight=3), "b": Now(in_flight=1), "c": Now(in_flight=2)})
        == "b"
    )


def test_fastest_prefers_the_faster_of_two_and_asks_all() -> None:
    plan = plan_from(f"strategy: fastest\n{TARGETS}")
    slow, fast = Now(first_s=2.0, token_s=0.1), Now(first_s=0.1, token_s=0.01)
    counts = [
        chosen(plan, Ask(output_tokens=10), {"a": slow, "b": fast, "c": fast}, draw=(n + 0.5) / 300)
        for n in range(300)
    ]
    assert counts.count("a") == 0
    assert counts.count("b") > 100
    assert counts.count("c") > 100


def test_a_short_answer_and_a_long_one_may_be_fastest_elsewhere() -> None:
    plan = plan_from("strategy: fastest\ntargets: [{account: a}, {account: b}]")
    states = {"a": Now(first_s=0.1, token_s=0.1), "b": Now(first_s=1.0, token_s=0.001)}
    assert chosen(plan, Ask(output_tokens=2), states) == "a"
    assert chosen(plan, Ask(output_tokens=500), states) == "b"


@pytest.mark.parametrize("strategy", ["weighted", "least_busy", "fastest"])
def test_affinity_keeps_jobs_together_and_spreads_keys(strategy: str) -> None:
    plan = plan_from(f"strategy: {strategy}\n{WEIGHTED}")
    keys = [f"run-{n}" for n in range(600)]
    homes = {key: chosen(plan, Ask(key=key), draw=0.1) for key in keys}
    assert all(chosen(plan, Ask(key=key), draw=0.9) == home for key, home in homes.items())
    counts = [list(homes.values()).count(account) for account in ACCOUNTS]
    assert 240 < counts[0] < 360
    assert all(100 < count < 200 for count in counts[1:])


def test_affinity_moves_only_the_keys_of_what_is_gone() -> None:
    plan = plan_from(f"strategy: weighted\n{TARGETS}")
    keys = [f"run-{n}" for n in range(200)]
    shut = Now(shut_until=9.0, why="open")
    for key in keys:
        home = chosen(plan, Ask(key=key))
        away = chosen(plan, Ask(key=key), {"b": shut})
        assert away != "b"
        assert home in ("b", away)


def test_one_key_does_not_crowd_one_account() -> None:
    plan = plan_from(f"strategy: weighted\n{TARGETS}")
    ask = Ask(key="one run of a million jobs")
    flying = dict.fromkeys(ACCOUNTS, 0)
    for _ in range(300):
        account = chosen(plan, ask, {name: Now(in_flight=n) for name, n in flying.items()})
        assert account is not None
        flying[account] += 1
    assert max(flying.values()) <= 1.25 * 100 + 6
    assert min(flying.values()) > 0


def test_what_cannot_serve_a_job_is_left_out() -> None:
    plan = plan_from(
        "targets:\n"
        "  - {account: a, capabilities: {vision: false, context: 1000}}\n"
        "  - {account: b, capabilities: {tools: false, json: false}, region: eu}\n"
        "  - {account: c, tags: [eu, private]}"
    )
    assert chosen(plan, Ask()) == "a"
    assert chosen(plan, Ask(needs=Need.VISION)) == "b"
    assert chosen(plan, Ask(needs=Need.VISION | Need.TOOLS)) == "c"
    assert chosen(plan, Ask(needs=Need.JSON)) == "a"
    assert chosen(plan, Ask(input_tokens=900, most_output=100)) == "a"
    assert chosen(plan, Ask(input_tokens=900, most_output=101)) == "b"
    assert chosen(plan, Ask(regions=frozenset({"eu"}))) == "b"
    assert chosen(plan, Ask(regions=frozenset({"private"}))) == "c"
    nowhere = decide(plan, moment_of(plan), Ask(regions=frozenset({"mars"})), now=1.0, draw=0.5)
    assert (nowhere.chosen, nowhere.until) == (None, None)
    assert nowhere.why == "no target can take it"


def test_where_all_are_shut_the_job_waits_for_the_first_to_open() -> None:
    plan = plan_from(TARGETS)
    states = {
        "a": Now(shut_until=9.0, why="open"),
        "b": Now(shut_until=5.0, why="cooling"),
        "c": Now(shut_until=7.0),
    }
    waiting = decide(plan, moment_of(plan, **states), Ask(), now=1.0, draw=0.5)
    assert (waiting.chosen, waiting.until, waiting.why) == (None, 5.0, "b/m: cooling")


def test_a_target_that_failed_the_job_is_asked_again_only_where_no_other_is_left() -> None:
    plan = plan_from(TARGETS)
    assert chosen(plan, Ask(tried=frozenset({"a/m"}))) == "b"
    everything = Ask(tried=frozenset({"a/m", "b/m", "c/m"}))
    assert chosen(plan, everything) == "a"
    strict = decide(plan, moment_of(plan), everything, now=1.0, draw=0.5, untried=True)
    assert (strict.chosen, strict.until, strict.why) == (None, None, "every target has failed it")


def test_a_half_open_target_is_asked_first() -> None:
    plan = plan_from(TARGETS)
    assert chosen(plan, Ask(), {"c": Now(probing=True)}) == "c"


CONDITIONS = """
routes:
  - {when: {tenants: [acme], classes: [bulk]}, use: [c]}
  - {when: {tags: {team: "ml*"}}, use: [b]}
  - {when: {min_tokens: 5000}, use: [b, c], strategy: quality}
  - {when: {projects: ["x*"], apps: [web]}, use: [c]}
"""


@pytest.mark.parametrize(
    ("ask", "account"),
    [
        (Ask(tenant="acme", job_class="bulk"), "c"),
        (Ask(tenant="acme", job_class="standard"), "a"),
        (Ask(tenant="other", job_class="bulk"), "a"),
        (Ask(tags=(("team", "mlops"),)), "b"),
        (Ask(tags=(("team", "web"),)), "a"),
        (Ask(tags=(("other", "mlops"),)), "a"),
        (Ask(tenant="acme", job_class="bulk", tags=(("team", "ml"),)), "c"),
        (Ask(input_tokens=5000), "b"),
        (Ask(input_tokens=4999), "a"),
        (Ask(project="xy", app="web"), "c"),
        (Ask(project="xy"), "a"),
        (Ask(project="y", app="web"), "a"),
    ],
)
def test_the_first_condition_that_is_met_decides(ask: Ask, account: str) -> None:
    plan = plan_from(TARGETS + CONDITIONS, tenants="tenants: {acme: {}}")
    assert chosen(plan, ask) == account


def test_what_decided_is_told() -> None:
    plan = plan_from(TARGETS + CONDITIONS, tenants="tenants: {acme: {}}")
    decision = decide(plan, moment_of(plan), Ask(input_tokens=5000), now=1.0, draw=0.5)
    assert decision.why == "routes[2]: quality"


SPLIT = """
split: {by: user, arms: [{name: control, share: 0.75, use: [a]}, {name: new, share: 0.25, use: [b, c]}]}
"""


def test_a_split_is_sticky_and_names_its_arm() -> None:
    plan = plan_from(TARGETS + SPLIT)
    arms = {}
    for n in range(800):
        ask = Ask(user=f"u{n}", job=str(n))
        decision = decide(plan, moment_of(plan), ask, now=1.0, draw=0.5)
        again = decide(plan, moment_of(plan), Ask(user=f"u{n}", job="other"), now=2.0, draw=0.1)
        assert decision.chosen is not None
        assert again.arm == decision.arm
        assert decision.chosen.account == ("a" if decision.arm == "control" else "b")
        arms[n] = decision.arm
    assert 540 < list(arms.values()).count("control") < 660


def test_an_arm_whose_targets_are_shut_does_not_leak_into_another() -> None:
    plan = plan_from(TARGETS + SPLIT)
    users = (f"u{n}" for n in range(100))
    user = next(u for u in users if plan.group(Ask(user=u))[1] == "control")
    states = {"a": Now(shut_until=9.0, why="open")}
    decision = decide(plan, moment_of(plan, **states), Ask(user=user), now=1.0, draw=0.5)
    assert (decision.chosen, decision.until, decision.arm) == (None, 9.0, "control")


@pytest.mark.parametrize(
    ("hours", "at", "until"),
    [
        ("start: '22:00', end: '06:00'", "2026-11-26T21:00", "2026-11-26T22:00"),
        ("start: '22:00', end: '06:00'", "2026-11-26T23:00", None),
        ("start: '22:00', end: '06:00'", "2026-11-27T05:59", None),
        ("start: '22:00', end: '06:00'", "2026-11-27T06:00", "2026-11-27T22:00"),
        ("start: '01:00', end: '05:00'", "2026-11-26T06:00", "2026-11-27T01:00"),
        ("start: '01:00', end: '05:00'", "2026-11-26T00:30", "2026-11-26T01:00"),
        ("start: '01:00', end: '05:00', zone: Europe/Berlin", "2026-11-26T00:30", None),
        (
            "start: '01:00', end: '05:00', zone: Europe/Berlin",
            "2026-11-26T04:30",
            "2026-11-27T00:00",
        ),
    ],
)
def test_classes_wait_for_cheaper_hours(hours: str, at: str, until: str | None) -> None:
    plan = plan_from(f"{TARGETS}\noff_peak: {{hours: {{{hours}}}}}")
    now = _epoch(at)
    decision = decide(plan, moment_of(plan), Ask(job_class="bulk"), now=now, draw=0.5)
    expected = None if until is None else _epoch(until)
    assert decision.until == expected
    assert (decision.chosen is None) == (until is not None)
    assert chosen(plan, Ask(job_class="standard"), now=now) == "a"


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_an_explanation_tells_the_fate_of_each() -> None:
    plan = plan_from(
        "targets: [{account: a, capabilities: {vision: false}}, {account: b}, {account: c, weight: 2}]"
    )
    states = {"b": Now(shut_until=9.0, why="open")}
    ask = Ask(needs=Need.VISION, tried=frozenset({"x"}))
    decision = decide(plan, moment_of(plan, **states), ask, now=1.0, draw=0.5, explained=True)
    told = {look.name: (look.kept, look.why) for look in decision.looks}
    assert told["a/fast"] == (False, "cannot do vision")
    assert told["b/fast"] == (False, "open, for 8.0 s")
    assert told["c/fast"][0]
    assert decision.why == "priority, of 1 of 3"


STATES = st.builds(
    Now,
    shut_until=st.sampled_from([0.0, 0.5, 5.0, 9.0]),
    why=st.just("shut"),
    probing=st.booleans(),
    in_flight=st.integers(0, 50),
    first_s=st.floats(0, 5),
    token_s=st.floats(0, 1),
)
ASKS = st.builds(
    Ask,
    input_tokens=st.integers(0, 3000),
    output_tokens=st.integers(0, 100),
    needs=st.sampled_from(list(Need)),
    regions=st.sampled_from([frozenset[str](), frozenset({"eu"})]),
    key=st.one_of(st.none(), st.text(max_size=5)),
    tried=st.frozensets(st.sampled_from(["a/m", "b/m", "c/m"])),
)
MIXED = """
targets:
  - {account: a, model: m, capabilities: {vision: false, context: 1000}, quality: 0.3}
  - {account: b, model: m, region: eu, capabilities: {tools: false}}
  - {account: c, model: m, weight: 3}
"""


@given(
    strategy=st.sampled_from(
        ["priority", "weighted", "cheapest", "fastest", "least_busy", "quality"]
    ),
    states=st.tuples(STATES, STATES, STATES),
    ask=ASKS,
    draw=st.floats(0, 1, exclude_max=True),
)
def test_what_is_chosen_can_serve_and_may_and_nobody_waits_for_nothing(
    strategy: str, states: tuple[Now, Now, Now], ask: Ask, draw: float
) -> None:
    plan = plan_from(f"strategy: {strategy}\n{MIXED}")
    moment = moment_of(plan, **dict(zip(ACCOUNTS, states, strict=True)))
    decision = decide(plan, moment, ask, now=1.0, draw=draw)
    told = decide(plan, moment, ask, now=1.0, draw=draw, explained=True)
    assert (told.chosen, told.until) == (decision.chosen, decision.until)
    fit = [
        c
        for c in plan.everything.candidates
        if not ask.needs & c.lacks
        and ask.input_tokens <= c.context
        and (not ask.regions or ask.regions & c.regions)
    ]
    may = [c for c in fit if moment.nows[c.place].shut_until <= 1.0]
    if may:
        assert decision.chosen in may
        fresh = [c for c in may if c.name not in ask.tried]
        assert decision.chosen in (fresh or may)
    else:
        assert decision.chosen is None
        soonest = min((moment.nows[c.place].shut_until for c in fit), default=None)
        assert decision.until == soonest
