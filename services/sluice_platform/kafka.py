"""Builds Kafka clients the one way that is safe here; holds no policy of its own."""

import asyncio
import logging
import math
import ssl
import time
from functools import partial
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    AuthenticationMethodNotSupported,
    KafkaError,
    SaslAuthenticationFailed,
)
from aiokafka.helpers import create_ssl_context
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from sluice_platform.errors import StartupError
from sluice_platform.settings import Settings

_CLIENT = "sluicegate"
_SASL = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}
_ADMIN_TIMEOUT_MS = 10_000
_POLL_S = 0.2
_POLL_MS = 1_000
_GATHER_S = 0.008
"""Between two polls while records come fast; whoever comes alone waits for nothing.

With 20 ms a job at half load waited 47 ms in all, with this 30; without any, a machine that is busy with batches of two waits longer.
"""
_FAST = 300.0
"""Records a second from which on they come fast."""
_RECENT_S = 0.25
"""How fast the running rate of records forgets."""
_METADATA_MAX_AGE_MS = 30_000
"""Partitions added to a topic are noticed within this time."""


def security(settings: Settings) -> dict[str, Any]:
    """The keyword arguments of any aiokafka client for protocol, certificates and login."""
    arguments: dict[str, Any] = {
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.kafka_sasl_mechanism
        arguments["sasl_plain_username"] = settings.kafka_sasl_username
        arguments["sasl_plain_password"] = _password(settings)
    return arguments


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=settings.kafka_ssl_cafile,
            certfile=settings.kafka_ssl_certfile,
            keyfile=settings.kafka_ssl_keyfile,
        )
    except (ssl.SSLError, OSError) as exc:
        raise StartupError(
            f"the certificates for Kafka cannot be loaded: {exc}. Check SLUICE_KAFKA_SSL_CAFILE, "
            "SLUICE_KAFKA_SSL_CERTFILE and SLUICE_KAFKA_SSL_KEYFILE: PEM files."
        ) from exc
    return context


def _password(settings: Settings) -> str:
    secret = settings.kafka_sasl_password
    return "" if secret is None else secret.get_secret_value()


def producer(settings: Settings, *, linger_ms: int, max_request_size: int) -> AIOKafkaProducer:
    """An idempotent producer, not started: `linger_ms` 0 for replies, 5 for everything else.

    `max_request_size` (bytes) bounds one record with its headers. Its futures have no deadline of
    their own: a batch waits out any outage.
    """
    return AIOKafkaProducer(
        bootstrap_servers=settings.need_kafka(),
        client_id=_CLIENT,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        max_batch_size=131_072,
        max_request_size=max_request_size,
        metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        **security(settings),
    )


def admin(settings: Settings) -> AIOKafkaAdminClient:
    """An admin client, not started."""
    return AIOKafkaAdminClient(
        bootstrap_servers=settings.need_kafka(),
        client_id=_CLIENT,
        request_timeout_ms=_ADMIN_TIMEOUT_MS,
        **security(settings),
    )


def consumer_broker(settings: Settings) -> KafkaBroker:
    """A FastStream broker for subscribers alone: it opens no producer and makes no topics."""
    # FastStream's own logger writes past the process's logging, and warns of what is asked for here.
    own = logging.getLogger("faststream")
    own.handlers.clear()
    own.propagate = True
    own.setLevel(logging.ERROR)
    return KafkaBroker(
        settings.need_kafka(),
        client_id=_CLIENT,
        consumer_only=True,
        allow_auto_create_topics=False,
        apply_types=False,
        metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        security=_broker_security(settings),
        # Its per-batch lines are for debugging; what goes wrong comes at ERROR.
        logger=logging.getLogger("faststream.kafka"),
        log_level=logging.DEBUG,
    )


class _PatientConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer that returns from a poll with records or not at all.

    FastStream's batch subscriber sleeps without listening after each poll that finds nothing: a record that came
    alone waited for that, and an idle worker woke hundreds of times a second. Where they come
    fast it waits for company all the same: a poll of one record costs as much as one of a hundred.
    """

    _returned_at = 0.0
    _rate = 0.0

    async def getmany(
        self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None
    ) -> Any:
        """Wait for records, however long; the group sees a poll a second."""
        clock = asyncio.get_running_loop()
        early = self._returned_at + _GATHER_S - clock.time()
        if early > 0 and self._rate >= _FAST:
            await asyncio.sleep(early)
        while True:
            found = await super().getmany(
                *partitions, timeout_ms=max(timeout_ms, _POLL_MS), max_records=max_records
            )
            if found:
                now = clock.time()
                kept = math.exp((self._returned_at - now) / _RECENT_S)
                self._rate = self._rate * kept + sum(map(len, found.values())) / _RECENT_S
                self._returned_at = now
                return found


async def start_consuming(broker: KafkaBroker) -> None:
    """Start a broker's subscribers, each with a patient consumer."""
    await broker.connect()
    # No public setting says of which class a consumer is.
    config = broker.config.broker_config
    plain = cast("partial[AIOKafkaConsumer]", config.builder)
    config.builder = partial(_PatientConsumer, **plain.keywords)
    await broker.start()


def _broker_security(settings: Settings) -> BaseSecurity:
    context = _ssl_context(settings)
    if not settings.kafka_security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=context is not None)
    return _SASL[settings.kafka_sasl_mechanism](
        username=settings.kafka_sasl_username or "",
        password=_password(settings),
        ssl_context=context,
        use_ssl=context is not None,
    )


def sticky_assignor(name: str) -> type[StickyPartitionAssignor]:
    """A sticky assignor of one consumer's own: the class keeps its assignment in class attributes,
    so that two consumers of one process must not share it."""
    return type(f"StickyPartitionAssignor_{name}", (StickyPartitionAssignor,), {})


async def cluster_id(settings: Settings) -> str:
    """The cluster's id, part of a record's identity; raises StartupError if there is no answer."""
    return (await _describe(settings))[0]


async def wait_for_kafka(settings: Settings, timeout_s: float) -> None:
    """Returns once a broker answers.

    Raises StartupError after `timeout_s`, at once where waiting cannot help (login, certificate).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline
        try:
            if (await _describe(settings))[1]:
                return
        except _RefusedError:
            raise
        except StartupError:
            if late:
                raise
        if late:
            raise StartupError(f"Kafka at {settings.kafka} has no registered broker; see its log.")
        await asyncio.sleep(_POLL_S)


class _RefusedError(StartupError):
    """A broker is there and does not let us in."""


async def _raise_refusal(settings: Settings) -> None:
    """Where a broker refuses us, say why: the clients tell that in their logs alone."""
    brokers, secured = settings.need_kafka(), security(settings)
    for host, port, _family in collect_hosts(brokers):
        try:
            connection = await create_conn(
                host, port, client_id=_CLIENT, request_timeout_ms=_ADMIN_TIMEOUT_MS, **secured
            )
        except (SaslAuthenticationFailed, AuthenticationMethodNotSupported) as exc:
            raise _RefusedError(
                f"Kafka at {brokers} refuses the login: {exc}. Check SLUICE_KAFKA_SASL_MECHANISM, "
                "SLUICE_KAFKA_SASL_USERNAME and SLUICE_KAFKA_SASL_PASSWORD."
            ) from exc
        except ssl.SSLCertVerificationError as exc:
            raise _RefusedError(
                f"the certificate of Kafka at {brokers} does not verify: {exc}. "
                "Check SLUICE_KAFKA_SSL_CAFILE, and the names it was made out for."
            ) from exc
        except (KafkaError, OSError, TimeoutError):
            continue
        connection.close()


async def _describe(settings: Settings) -> tuple[str, int]:
    """Cluster id and number of brokers."""
    client = admin(settings)
    try:
        await client.start()
        cluster = await client.describe_cluster()
    except (KafkaError, OSError) as exc:
        await _raise_refusal(settings)
        raise StartupError(
            f"Kafka at {settings.kafka} does not answer: {exc!r}. Start it, or check SLUICE_KAFKA "
            "and the SLUICE_KAFKA_… security settings."
        ) from exc
    finally:
        await client.close()
    return str(cluster["cluster_id"]), len(cluster["brokers"])
