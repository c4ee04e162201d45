"""Follows the configuration that is applied: what a running worker can change goes by it at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from sluice_core.admission.directory import Directory
from sluice_core.config.load import ConfigError
from sluice_core.config.model import Config
from sluice_core.dispatch.fairness import Weights
from sluice_core.dispatch.policy import Shares
from sluice_core.intake.policy import IntakePolicy
from sluice_core.rollout.repository import RolloutRepository
from sluice_worker.cache import CacheStep
from sluice_worker.crowds import Crowds
from sluice_worker.dispatch import Dispatcher
from sluice_worker.permits import Permits
from sluice_worker.reading import Reader
from sluice_worker.route import Router

AT_START: Final = ("cell", "kafka", "intake", "limits", "retention", "worker")
"""Sections that are read when a process starts, of which a change waits for the next start."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """The parts of a worker that go by another configuration while they run."""

    reader: Reader
    permits: Permits
    directory: Directory
    router: Router
    cache: CacheStep
    dispatcher: Dispatcher
    crowds: Crowds


class Rollout:
    """Reads a newly applied version when the version that heartbeats bring has moved.

    `parse` reads a document as this process reads its own file; what it cannot read changes nothing.
    """

    def __init__(
        self,
        repository: RolloutRepository,
        config: Config,
        followers: Followers,
        *,
        parse: Callable[[str], Config],
        cluster_id: str,
    ) -> None:
        self._repository = repository
        self._config = config
        self._followers = followers
        self._parse = parse
        self._cluster_id = cluster_id
        self._beat_version = -1
        self._applied = 0

    async def start(self) -> None:
        """Note what is applied by now. At start a process goes by its own file; if that says otherwise, it tells."""
        latest = await self._repository.latest()
        if latest is None:
            return
        self._applied = latest.version
        try:
            same = self._parse(latest.document) == self._config
        except ConfigError:
            same = False
        if not same:
            _log.warning(
                "config.differs_from_applied",
                version=latest.version,
                hint="run `sluice config apply`, or give this process the applied file",
            )

    async def refresh(self, beat_version: int) -> None:
        """Follow what was applied since, if anything was."""
        if beat_version == self._beat_version:
            return
        latest = await self._repository.latest()
        if latest is not None and latest.version > self._applied:
            try:
                config = self._parse(latest.document)
            except ConfigError as exc:
                _log.error("config.not_followed", version=latest.version, problems=exc.problems)
            else:
                await self._follow(config)
                _log.info("config.followed", version=latest.version)
            self._applied = latest.version
        self._beat_version = beat_version

    async def _follow(self, config: Config) -> None:
        parts = self._followers
        intake = IntakePolicy.from_config(config, cluster_id=self._cluster_id)
        await parts.directory.change(config)
        await parts.permits.change(intake.permissions, config.tenants)
        parts.router.change(config)
        parts.cache.change(config)
        parts.reader.change(intake)
        parts.crowds.change(config)
        parts.dispatcher.times.change(Weights.from_config(config))
        parts.dispatcher.change(Shares.from_config(config.dispatch))
        waiting = [
            name for name in AT_START if getattr(config, name) != getattr(self._config, name)
        ]
        if waiting:
            _log.warning("config.needs_restart", sections=waiting)
        self._config = config
