"""What a worker knows of its targets, alone and together with others that share a ledger."""

from dataclasses import dataclass, field

from sluice_core.routing.breaker import BreakerRules
from sluice_core.routing.health import Health
from sluice_core.routing.model import Moment
from sluice_core.routing.repository import Key, OpenRow
from sluice_worker.targets import FAULT_S, HUNG_S, IDLE_PROBE_S, Targets

RULES = BreakerRules(minimum=2, open_s=5.0, probes=2)
A, B = ("a", "m"), ("b", "m")


@dataclass
class Ledger:
    """`share_breakers_v1` in memory."""

    rows: dict[Key, tuple[int, float, str, int | None]] = field(default_factory=dict)

    def share(self, worker: int, targets: Targets, now: float) -> None:
        opened, targets.opened = targets.opened, []
        closed, targets.closed = targets.closed, []
        given_up, targets.given_up = targets.given_up, []
        wanted, targets.wanted = targets.wanted, {}
        for news in opened:
            self.rows[news.key] = (news.level, now + news.open_s, news.reason, None)
        for key in closed:
            self.rows.pop(key, None)
        for key in given_up:
            self.rows[key] = (*self.rows[key][:3], None)
        for key in wanted:
            if key in self.rows and self.rows[key][1] <= now and self.rows[key][3] is None:
                self.rows[key] = (*self.rows[key][:3], worker)
        targets.apply(
            [
                OpenRow(
                    key=key, level=level, reason=reason, left_s=until - now, mine=prober == worker
                )
                for key, (level, until, reason, prober) in self.rows.items()
            ],
            now,
        )


@dataclass
class Worker:
    """One worker's targets, and the moment of a plan over both."""

    number: int
    stirred: int = 0

    def __post_init__(self) -> None:
        self.targets = Targets(self.stir)
        self.moment: Moment = self.targets.moment([A, B], [RULES, RULES], 0.0)

    def stir(self) -> None:
        self.stirred += 1

    def call(self, key: Key, health: Health, now: float, reason: str = "status 500") -> None:
        self.targets.started(key, now)
        self.targets.ended(key, health, took_s=0.1, reason=reason, now=now)

    def open(self, place: int, now: float) -> bool:
        """Whether calls may go to a target, as a decision would see it."""
        if self.moment.shut_until > now:
            self.targets.look([A, B], now)
        return self.moment.nows[place].shut_until <= now


def test_one_worker_opens_it_for_all_and_one_alone_probes() -> None:
    ledger, one, other = Ledger(), Worker(1), Worker(2)
    one.call(A, Health.ILL, 0.0)
    one.call(A, Health.ILL, 0.0)
    assert not one.open(0, 0.0)
    assert one.open(1, 0.0)
    assert one.stirred == 1
    assert other.open(0, 0.0)
    for worker in (one, other):
        ledger.share(worker.number, worker.targets, 0.1)
    assert not other.open(0, 0.2)
    assert "status 500" in other.moment.nows[0].why
    assert other.moment.nows[0].again_at == 5.1
    # Time alone opens nothing: it is asked for a probe, which one of the two gets.
    assert not one.open(0, 6.0)
    assert not other.open(0, 6.0)
    for worker in (one, other):
        ledger.share(worker.number, worker.targets, 6.0)
    assert one.open(0, 6.0)
    assert one.moment.probing
    assert not other.open(0, 6.0)
    one.call(A, Health.WELL, 6.1)
    assert not one.targets.closed
    one.call(A, Health.WELL, 6.1)
    assert one.targets.closed == [A]
    for worker in (one, other):
        ledger.share(worker.number, worker.targets, 6.2)
    assert one.open(0, 6.2)
    assert other.open(0, 6.2)
    assert not one.moment.probing


def test_no_more_probes_go_than_were_granted() -> None:
    ledger, one = Ledger(), Worker(1)
    one.call(A, Health.ILL, 0.0)
    one.call(A, Health.ILL, 0.0)
    ledger.share(1, one.targets, 0.0)
    assert not one.open(0, 5.0)
    ledger.share(1, one.targets, 5.0)
    sent = 0
    while one.open(0, 5.0):
        one.targets.started(A, 5.0)
        sent += 1
    assert sent == RULES.probes
    ledger.share(1, one.targets, 5.1)
    assert not one.open(0, 5.1), "sharing grants no second round while the first is under way"
    one.targets.ended(A, Health.ILL, took_s=0.1, reason="status 500", now=5.2)
    assert one.targets.opened[-1].level == 2
    one.targets.ended(A, Health.WELL, took_s=0.1, reason="", now=5.2)
    assert not one.open(0, 6.0)


def test_a_probe_that_nobody_uses_is_given_up() -> None:
    ledger, one, other = Ledger(), Worker(1), Worker(2)
    one.call(A, Health.ILL, 0.0)
    one.call(A, Health.ILL, 0.0)
    ledger.share(1, one.targets, 0.0)
    assert not one.open(0, 5.0)
    ledger.share(1, one.targets, 5.0)
    ledger.share(2, other.targets, 5.0)
    ledger.share(1, one.targets, 5.1 + IDLE_PROBE_S)
    ledger.share(1, one.targets, 5.2 + IDLE_PROBE_S)
    assert not other.open(0, 9.0)
    ledger.share(2, other.targets, 9.0)
    assert other.open(0, 9.0)


def test_one_good_probe_is_enough_where_no_job_comes_to_probe_by_any_more() -> None:
    ledger, one, other = Ledger(), Worker(1), Worker(2)
    one.call(A, Health.ILL, 0.0)
    one.call(A, Health.ILL, 0.0)
    ledger.share(1, one.targets, 0.0)
    assert not one.open(0, 5.0)
    ledger.share(1, one.targets, 5.0)
    one.call(A, Health.WELL, 6.0)
    ledger.share(1, one.targets, 6.1)
    assert one.moment.probing
    assert one.targets.asking() == {}, "no grant is renewed for probes that nobody sends"
    ledger.share(1, one.targets, 6.1 + IDLE_PROBE_S)
    ledger.share(1, one.targets, 6.2 + IDLE_PROBE_S)
    ledger.share(2, other.targets, 6.3 + IDLE_PROBE_S)
    assert one.open(0, 9.9)
    assert other.open(0, 9.9)


def test_calls_that_are_given_up_count_where_they_took_far_too_long() -> None:
    one = Worker(1)

    def given_up(took_s: float) -> None:
        one.targets.started(A, 0.0)
        one.targets.hung(A, took_s=took_s, now=0.0)

    for _ in range(3):
        given_up(HUNG_S - 1)  # its job was in a hurry
    one.targets.learn_times(A, first_s=None, took_s=40.0, output_tokens=10)
    for _ in range(3):
        given_up(2 * 40.0)  # long answers are usual here
    assert one.open(0, 0.0)
    for _ in range(2):
        given_up(4 * 40.0)
    assert not one.open(0, 0.0)


def test_faults_of_its_account_in_a_row_shut_a_target_and_somebody_is_told() -> None:
    one = Worker(1)
    for health in (Health.FAULT, Health.FAULT, Health.WELL, Health.FAULT, Health.FAULT):
        one.call(A, health, 0.0, "key_refused")
    assert one.open(0, 0.0)
    one.call(A, Health.FAULT, 0.0, "key_refused")
    assert not one.open(0, 0.0)
    assert one.open(1, 0.0)
    (news,) = one.targets.opened
    assert (news.key, news.fault, news.reason, news.open_s) == (A, True, "key_refused", FAULT_S)
    one.call(A, Health.FAULT, 0.1, "key_refused")
    assert len(one.targets.opened) == 1


def test_a_probe_that_says_nothing_is_sent_again() -> None:
    ledger, one = Ledger(), Worker(1)
    one.call(A, Health.ILL, 0.0)
    one.call(A, Health.ILL, 0.0)
    ledger.share(1, one.targets, 0.0)
    assert not one.open(0, 5.0)
    ledger.share(1, one.targets, 5.0)
    for _ in range(5):
        assert one.open(0, 5.0)
        one.call(A, Health.NEUTRAL, 5.0)
    one.targets.started(A, 5.0)
    one.targets.never_went(A, 5.0)
    assert one.open(0, 5.0)
    assert one.moment.nows[0].in_flight == 0


def test_pauses_and_holds() -> None:
    one = Worker(1)
    one.targets.shut([A], 3.0, "asked for a pause", 1.0)
    assert not one.open(0, 2.0)
    assert one.open(0, 3.0)
    one.targets.hold(frozenset({"b"}), 4.0)
    assert not one.open(1, 4.0)
    assert one.moment.nows[1].why == "an operator holds the account"
    one.targets.hold(frozenset(), 5.0)
    assert one.open(1, 5.0)


def test_times_are_learnt_apart_for_the_first_token_and_the_others() -> None:
    one = Worker(1)
    for _ in range(200):
        one.targets.learn_times(A, first_s=0.5, took_s=2.5, output_tokens=100)
    state = one.moment.nows[0]
    assert abs(state.first_s - 0.5) < 0.01
    assert abs(state.token_s - 0.02) < 0.001


def test_a_grant_lasts_as_long_as_its_probes_are_under_way() -> None:
    ledger, one = Ledger(), Worker(1)
    for _ in range(2):
        one.call(A, Health.ILL, 0.0)
    ledger.share(1, one.targets, 0.0)
    assert one.targets.asking() == {}
    one.targets.look([A, B], 6.0)
    ledger.share(1, one.targets, 6.0)
    assert one.targets.asking() == {}  # granted, and not used yet
    one.targets.started(A, 6.0)
    assert one.targets.asking() == {A: None}
    for now in (6.1, 50.0):
        one.targets.ended(A, Health.WELL, took_s=44.0, reason="", now=now)
    assert one.targets.asking() == {}
