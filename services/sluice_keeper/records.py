"""Removes records that are admitted and over their retention, and reports those that went before they were admitted."""

import time
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import UnknownTopicOrPartitionError

from sluice_core.config.model import Config
from sluice_core.publishing.model import Message, Origin
from sluice_core.publishing.policy import event_message
from sluice_core.upkeep.model import LogPosition
from sluice_core.upkeep.policy import delete_before, lost_event_id, lost_range
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_platform.kafka import admin, security
from sluice_platform.settings import Settings
from sluice_schemas.classes import JobClass
from sluice_schemas.events import Alert
from sluice_schemas.times import format_time
from sluice_schemas.topics import control_group, group_of

EVERY_S = 60.0

_log = structlog.stdlib.get_logger(__name__)


class Records:
    """Looks at the topics that are read, as their groups see them. Its clients live for one pass."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        upkeep: UpkeepRepository,
        origin: Origin,
        cluster_id: str,
    ) -> None:
        self._settings = settings
        self._retention_s = config.retention.jobs
        self._upkeep = upkeep
        self._origin = origin
        self._cluster_id = cluster_id
        self._job_topics = _job_topics(config, origin)
        self._control_topics = {
            topic: control_group(config.kafka.prefix)
            for topic in (
                origin.topics.control,
                *(t.name for t in config.intake.topics if t.job_class == "control"),
            )
        }

    async def once(self) -> bool:
        """One pass over all partitions."""
        client = admin(self._settings)
        try:
            await client.start()
            control = await self._positions(client, self._control_topics)
            jobs = await self._positions(client, self._job_topics)
            await self._tell_lost([*jobs, *control])
            await self._delete(client, jobs)
        finally:
            await client.close()
        return False

    async def _positions(
        self, client: AIOKafkaAdminClient, groups: Mapping[str, str]
    ) -> list[LogPosition]:
        partitions = await _partitions(client, list(groups))
        if not partitions:
            return []
        committed: dict[TopicPartition, int] = {}
        for group in set(groups.values()):
            found = await client.list_consumer_group_offsets(
                group, partitions=[p for p in partitions if groups[p.topic] == group]
            )
            committed |= {p: o.offset for p, o in found.items() if o.offset >= 0}
        edge = int((time.time() - self._retention_s) * 1000)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.need_kafka(), **security(self._settings)
        )
        try:
            await consumer.start()
            # Asked after the commits: a log start beyond one of them is a fact by then.
            starts = await consumer.beginning_offsets(partitions)
            young = await consumer.offsets_for_times({p: max(0, edge) for p in partitions})
        finally:
            await consumer.stop()
        return [
            LogPosition(
                topic=p.topic,
                partition=p.partition,
                start=starts[p],
                committed=committed.get(p),
                old_until=None if young[p] is None else young[p].offset,
            )
            for p in partitions
        ]

    async def _delete(self, client: AIOKafkaAdminClient, logs: Sequence[LogPosition]) -> None:
        edges = {TopicPartition(log.topic, log.partition): delete_before(log) for log in logs}
        wanted = {p: RecordsToDelete(edge) for p, edge in edges.items() if edge is not None}
        if wanted:
            await client.delete_records(wanted)
            _log.info("records.deleted", partitions=len(wanted))

    async def _tell_lost(self, logs: Sequence[LogPosition]) -> None:
        for log in logs:
            lost = lost_range(log)
            if lost is not None and await self._upkeep.tell_once(
                lost_event_id(self._cluster_id, log), self._alert(log, *lost)
            ):
                _log.error(
                    "records.lost",
                    topic=log.topic,
                    partition=log.partition,
                    first=lost[0],
                    last=lost[1] - 1,
                )

    def _alert(self, log: LogPosition, first: int, after: int) -> Message:
        at = time.time()
        scope = f"{log.topic}/{log.partition}"
        value = Alert(
            alert="records_lost",
            state="raised",
            severity="critical",
            scope=scope,
            message=f"{after - first} offsets of {scope} went before they were admitted",
            at=format_time(at),
            details={
                "topic": log.topic,
                "partition": log.partition,
                "first_offset": first,
                "last_offset": after - 1,
            },
        )
        return event_message(
            self._origin,
            topic=self._origin.topics.alerts,
            kind="alert.raised",
            key=scope,
            ce_id=lost_event_id(self._cluster_id, log),
            at=at,
            value=value.model_dump(mode="json"),
        )


def _job_topics(config: Config, origin: Origin) -> dict[str, str]:
    """Every topic that jobs are read from, and the group that reads it."""
    groups = {c.label: group_of(c, config.kafka.prefix) for c in JobClass}
    own = {origin.topics.jobs(c): groups[c.label] for c in JobClass}
    extra = {t.name: groups[t.job_class] for t in config.intake.topics if t.job_class in groups}
    return own | extra


async def _partitions(client: AIOKafkaAdminClient, topics: list[str]) -> list[TopicPartition]:
    """The partitions of those topics that exist."""
    found = await client.describe_topics(topics)
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in found
        if topic["error_code"] != UnknownTopicOrPartitionError.errno
        for partition in topic["partitions"]
    ]
