"""Pure: findings from what was measured."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from sluice_core.config.model import ANY_MODEL, Config
from sluice_core.health.model import Broker, Finding, Ledger, Level, Server
from sluice_core.keys.model import Seals
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.terms import terms_of

OLDEST_POSTGRES: Final = 15
CLOCK_WARNING_S: Final = 1.0
CLOCK_PROBLEM_S: Final = 30.0
SNAPSHOT_WARNING_S: Final = 600.0
SILENT_S: Final = 10.0
OUTBOX_PROBLEM_S: Final = 120.0
UNRESOLVED_WARNING_S: Final = 24 * 3600.0

# A difference in one of these loses records or time; in others it is somebody's choice.
_VITAL: Final = frozenset({"topic", "retention.ms", "max.message.bytes", "message.timestamp.type"})


def server_findings(server: Server) -> list[Finding]:
    """What the database server's own state says about durability and time."""
    return [
        Finding(check="postgres", level="ok", message=f"answers in {server.answer_ms:.1f} ms"),
        _version(server),
        *_durability(server),
        _clock("postgres clock", server.clock_ahead_s),
        _snapshot(server.oldest_snapshot_s),
    ]


def _version(server: Server) -> Finding:
    recent = server.version // 10_000 >= OLDEST_POSTGRES
    return Finding(
        check="postgres version",
        level="ok" if recent else "problem",
        message=f"PostgreSQL {server.version_text}",
        advice="" if recent else f"upgrade to PostgreSQL {OLDEST_POSTGRES} or newer",
    )


def _durability(server: Server) -> Iterator[Finding]:
    for name, fine, found in (
        ("synchronous_commit", server.synchronous_commit != "off", server.synchronous_commit),
        ("fsync", server.fsync, "on" if server.fsync else "off"),
        ("full_page_writes", server.full_page_writes, "on" if server.full_page_writes else "off"),
    ):
        yield Finding(
            check=name,
            level="ok" if fine else "problem",
            message=found,
            advice="" if fine else f"set {name} = on: an accepted job could be lost in a crash",
        )
    if server.in_recovery:
        yield Finding(
            check="postgres role",
            level="problem",
            message="this is a standby",
            advice="let SLUICE_DATABASE name the primary",
        )
    yield _failover(server)


def _failover(server: Server) -> Finding:
    if not server.standbys:
        return Finding(check="failover", level="ok", message="no standby attached")
    if all(state is None for state in server.standbys):
        return Finding(
            check="failover",
            level="warning",
            message="standbys are attached, and this role may not see how",
            advice="grant pg_monitor to the role that runs doctor",
        )
    if any(state in {"sync", "quorum"} for state in server.standbys):
        return Finding(check="failover", level="ok", message="a synchronous standby is attached")
    return Finding(
        check="failover",
        level="problem",
        message="the standbys are asynchronous: a failover would lose accepted jobs",
        advice="set synchronous_standby_names (ANY 1 (…)) so that one standby is synchronous",
    )


def _clock(check: str, ahead_s: float) -> Finding:
    apart = abs(ahead_s)
    level: Level = "ok"
    if apart >= CLOCK_WARNING_S:
        level = "problem" if apart >= CLOCK_PROBLEM_S else "warning"
    way = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        check=check,
        level=level,
        message=f"{apart:.3f} s {way} this machine",
        advice=""
        if level == "ok"
        else "run NTP on every machine: deadlines and signatures are times",
    )


def _snapshot(age_s: float) -> Finding:
    fine = age_s < SNAPSHOT_WARNING_S
    return Finding(
        check="oldest snapshot",
        level="ok" if fine else "warning",
        message=f"{age_s:.0f} s",
        advice=""
        if fine
        else "end it, or run long reports and dumps on a replica: vacuum cannot pass it",
    )


def ledger_findings(ledger: Ledger) -> list[Finding]:
    """What the ledger's state says: its schema, its partitions, who works on it."""
    if ledger.revision is None or ledger.revision != ledger.head:
        found = "no ledger yet" if ledger.revision is None else f"revision {ledger.revision}"
        newer = ledger.revision is not None and (ledger.head or "") < ledger.revision
        advice = "upgrade this build: the ledger is newer" if newer else "run `sluice migrate`"
        finding = Finding(
            check="migrations",
            level="problem",
            message=f"{found}; this build knows {ledger.head}",
            advice=advice,
        )
        if ledger.revision is None:
            return [finding]
        return [finding, *_state(ledger)]
    return [
        Finding(check="migrations", level="ok", message=f"at {ledger.revision}"),
        *_state(ledger),
    ]


def _state(ledger: Ledger) -> Iterator[Finding]:
    missing = ledger.partitions_missing
    yield Finding(
        check="partitions",
        level="problem" if missing else "ok",
        message=f"missing: {', '.join(missing)}" if missing else "made ahead",
        advice="start a keeper, or run `sluice migrate`" if missing else "",
    )
    yield _alive(ledger, "worker", "start `sluice worker`: jobs wait")
    yield _alive(
        ledger, "keeper", "start `sluice keeper`: nothing is reaped, expired or cleaned up"
    )
    age = ledger.outbox_age_s
    late = age is not None and age > OUTBOX_PROBLEM_S
    yield Finding(
        check="outbox",
        level="problem" if late else "ok",
        message="empty" if age is None else f"oldest event waits {age:.0f} s",
        advice="see the keeper's and workers' logs: events do not reach Kafka" if late else "",
    )
    yield _unresolved(ledger)


def _alive(ledger: Ledger, kind: str, advice: str) -> Finding:
    known = [process for process in ledger.processes if process.kind == kind]
    alive = [process for process in known if process.beat_age_s < SILENT_S]
    silent = len(known) - len(alive)
    names = ", ".join(sorted(process.name for process in alive))
    message = f"{len(alive)} alive" + (f": {names}" if names else "")
    return Finding(
        check=f"{kind}s",
        level="ok" if alive else "problem",
        message=message + (f"; {silent} silent" if silent else ""),
        advice="" if alive else advice,
    )


def _unresolved(ledger: Ledger) -> Finding:
    age = ledger.unresolved_age_s or 0.0
    old = age > UNRESOLVED_WARNING_S
    return Finding(
        check="unresolved",
        level="warning" if old else "ok",
        message=f"{ledger.unresolved} attempts of unknown outcome"
        + (f", the oldest {age / 3600:.0f} h" if old else ""),
        advice="ask the provider, then `sluice unresolved settle`" if old else "",
    )


def broker_findings(broker: Broker) -> list[Finding]:
    """What the cluster and its topics say."""
    found = [
        Finding(
            check="kafka",
            level="ok",
            message=f"{broker.brokers} brokers answer in {broker.answer_ms:.1f} ms",
        ),
        Finding(
            check="kafka version",
            level="ok" if broker.recent else "problem",
            message="3.7 or newer" if broker.recent else "older than 3.7",
            advice="" if broker.recent else "upgrade the brokers to 3.7 or newer",
        ),
    ]
    if broker.clock_ahead_s is None:
        found.append(
            Finding(check="kafka clock", level="ok", message="no record from this machine's future")
        )
    else:
        found.append(_clock("kafka clock", broker.clock_ahead_s))
    return [*found, *_topics(broker)]


def _topics(broker: Broker) -> Iterator[Finding]:
    missing = [d.topic for d in broker.differences if d.found is None and d.setting == "topic"]
    if missing:
        yield Finding(
            check="topics",
            level="problem",
            message=f"missing: {', '.join(missing)}",
            advice="run `sluice topics create`",
        )
    for difference in broker.differences:
        if difference.setting == "topic":
            continue
        yield Finding(
            check=f"topic {difference.topic}",
            level="problem" if difference.setting in _VITAL else "warning",
            message=f"{difference.setting} is {difference.found}, should be {difference.wanted}",
            advice="kafka-configs.sh --alter --entity-type topics --entity-name "
            f"{difference.topic} --add-config {difference.setting}={difference.wanted}",
        )
    if not broker.differences:
        yield Finding(check="topics", level="ok", message=f"{broker.topics} exist, set as needed")
    if broker.reply_topics_missing:
        named = ", ".join(f"{topic} (of {tenant})" for tenant, topic in broker.reply_topics_missing)
        yield Finding(
            check="reply topics",
            level="problem",
            message=f"missing: {named}",
            advice="their owners must create them (`sluice topics create` does not), or take them out "
            "of `tenants.NAME.reply_topics`: replies to them cannot be published",
        )


def key_findings(seals: Seals, *, previous_set: bool) -> list[Finding]:
    """What it means under which master key the keys that are not revoked are sealed."""
    if seals.neither:
        return [
            Finding(
                check="keys",
                level="problem",
                message=f"do not open under this SLUICE_MASTER_KEY: {', '.join(seals.neither)}",
                advice="set the SLUICE_MASTER_KEY they were created under, or revoke them: what they sign "
                "is refused",
            )
        ]
    if seals.previous:
        return [
            Finding(
                check="keys",
                level="warning",
                message=f"{len(seals.previous)} still need SLUICE_MASTER_KEY_PREVIOUS",
                advice="run `sluice keys rotate-master` once every worker has both master keys",
            )
        ]
    message = "all open under this SLUICE_MASTER_KEY"
    if previous_set:
        message += "; SLUICE_MASTER_KEY_PREVIOUS is needed no more: unset it everywhere"
    return [Finding(check="keys", level="ok", message=message)]


def price_findings(config: Config, book: PriceBook, at: datetime) -> list[Finding]:
    """Configured models whose calls would be booked at no cost, because no price is known at `at`."""
    found: list[Finding] = []
    for name, model in config.models.items():
        if name == ANY_MODEL:
            continue
        for target in model.targets:
            account = config.providers[target.account]
            provider, called = account.provider_name, target.model or name
            terms = terms_of(config, name, target.account, called)
            known = book.resolve(provider, called, at=at, terms=terms).priced
            if not known and account.prices.unpriced == "warn":
                found.append(
                    Finding(
                        check=f"price of {name}",
                        level="warning",
                        message=f"none is known of {called} at {target.account} ({provider}): "
                        "its calls are booked at 0",
                        advice=f"write models.{name}.prices: {{input: …, output: …}}, in US dollars "
                        f"per million tokens, or providers.{target.account}.prices.unpriced: zero",
                    )
                )
    return found


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing is a problem; warnings are allowed."""
    return all(finding.level != "problem" for finding in findings)
