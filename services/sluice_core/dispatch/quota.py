"""Pure: how many parked rows of which lanes one claim takes, so that every tenant gets its turn."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

MOST_LANES: Final = 64
"""Lanes that one claim looks at; with more, they take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A lane that may have rows. `asked`: a number that rises with every claim that looked at it.

    `most`: rows that it may give at most; None: no bound of its own.
    """

    lane: int
    tenant: str
    project: str
    asked: int = 0
    most: int | None = None


def quotas(
    candidates: Iterable[Candidate],
    *,
    room: Callable[[str], int],
    tenant_time: Callable[[str], float],
    project_time: Callable[[str, str], float],
    lanes: int = MOST_LANES,
) -> Iterator[tuple[int, int]]:
    """Lanes and how many rows each may give, in the order of fairness; at most `lanes` of them.

    `room` is what a tenant may hold more, an equal share for each. Tenants come in the order of their virtual
    time, and of each its projects in the order of theirs, an equal part for each; inside a project the lanes
    that were not looked at for longest. With more tenants than lanes those come first that have had least.
    """
    tenants = _grouped(candidates, lambda c: c.tenant)
    rooms = {name: room(name) for name in tenants}
    names = [name for name in tenants if rooms[name] > 0]
    names.sort(key=lambda name: (tenant_time(name), min(c.asked for c in tenants[name])))
    left = lanes
    for place, name in enumerate(names):
        if not left:
            return
        share = -(-left // (len(names) - place))
        projects = _grouped(tenants[name], lambda c: c.project)
        ordered = sorted((project_time(name, project), project) for project in projects)
        chosen = _spread([projects[project] for _, project in ordered], share)
        left -= sum(len(part) for part in chosen)
        yield from _split(chosen, rooms[name])


def _grouped(
    candidates: Iterable[Candidate], key: Callable[[Candidate], str]
) -> Mapping[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(key(candidate), []).append(candidate)
    return groups


def _spread(projects: list[list[Candidate]], lanes: int) -> list[list[Candidate]]:
    """`lanes` of these projects' lanes, as many of each as of the others."""
    queues = [sorted(project, key=lambda c: c.asked) for project in projects]
    chosen: list[list[Candidate]] = [[] for _ in projects]
    while lanes and any(queues):
        for queue, part in zip(queues, chosen, strict=True):
            if queue and lanes:
                part.append(queue.pop(0))
                lanes -= 1
    return [part for part in chosen if part]


def _split(projects: list[list[Candidate]], rows: int) -> Iterator[tuple[int, int]]:
    """`rows` in equal parts over projects, and of each over its lanes; at least one each."""
    for project in projects:
        part = max(1, -(-rows // len(projects)))
        for candidate in project:
            most = max(1, -(-part // len(project)))
            yield (
                candidate.lane,
                most if candidate.most is None else min(most, candidate.most),
            )
