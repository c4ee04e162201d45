"""Reads the broker's topics, and makes those that a configuration needs."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from sluice_core.topics.model import Created
from sluice_platform.errors import StartupError
from sluice_schemas.topics import TopicSpec

_DESCRIBED_AT_ONCE: Final = 200


class TopicService:
    """Topics over a started admin client; raises what aiokafka raises if the broker is away."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def settings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings in force of those of `names` that exist."""
        existing = sorted(set(names) & set(await self._admin.list_topics()))
        found: dict[str, dict[str, str]] = {}
        for start in range(0, len(existing), _DESCRIBED_AT_ONCE):
            chunk = existing[start : start + _DESCRIBED_AT_ONCE]
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in chunk]
            for response in await self._admin.describe_configs(resources):
                for _code, _message, _kind, name, entries in response.resources:
                    found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def partitions(self, names: Iterable[str]) -> dict[str, list[int]]:
        """The partitions, in order, of those of `names` that exist."""
        wanted = list(names)
        described = await self._admin.describe_topics(wanted) if wanted else []
        return {
            topic["topic"]: sorted(partition["partition"] for partition in topic["partitions"])
            for topic in described
            if topic["error_code"] == 0
        }

    async def create(
        self, specs: Sequence[TopicSpec], *, partitions: int, replication: int
    ) -> Created:
        """Make the topics that are missing; those that exist stay as they are.

        Raises StartupError with every topic that the broker refused, and why.
        """
        existing = set(await self._admin.list_topics())
        missing = [spec for spec in specs if spec.name not in existing]
        raced: set[str] = set()
        if missing:
            response = await self._admin.create_topics(
                [
                    NewTopic(
                        spec.name,
                        num_partitions=partitions,
                        replication_factor=replication,
                        topic_configs=spec.settings,
                    )
                    for spec in missing
                ]
            )
            raced = _raise_refused(response)
        return Created(
            created=tuple(spec.name for spec in missing if spec.name not in raced),
            existing=tuple(
                spec.name for spec in specs if spec.name in existing or spec.name in raced
            ),
        )


def _raise_refused(response: Any) -> set[str]:
    """The topics that somebody else made at the same time; raises for any other refusal."""
    raced, refused = set(), []
    for name, code, *rest in response.topic_errors:
        if code == TopicAlreadyExistsError.errno:
            raced.add(name)
        elif code:
            reason = rest[0] if rest and rest[0] else for_code(code).__name__
            refused.append(f"{name}: {reason}")
    if refused:
        raise StartupError(
            "the broker refused to create topics (check kafka.partitions and kafka.replication, "
            "and the right to create):\n" + "\n".join(refused)
        )
    return raced
