"""What one claim asks of which lanes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.dispatch.quota import Candidate, quotas

CANDIDATES = st.lists(
    st.builds(
        lambda tenant, project, asked, most: (tenant, project, asked, most),
        st.sampled_from("abcdefgh"),
        st.sampled_from("pqr"),
        st.integers(0, 20),
        st.one_of(st.none(), st.integers(1, 50)),
    ),
    max_size=120,
).map(
    lambda rows: [
        Candidate(lane=n, tenant=t, project=p, asked=asked, most=most)
        for n, (t, p, asked, most) in enumerate(rows)
    ]
)


def asked(candidates: list[Candidate], *, room: int = 100, lanes: int = 64) -> dict[int, int]:
    return dict(
        quotas(
            candidates,
            room=lambda _tenant: room,
            tenant_time=lambda tenant: float(ord(tenant[0])),
            project_time=lambda _tenant, project: float(ord(project[0])),
            lanes=lanes,
        )
    )


@given(candidates=CANDIDATES, room=st.integers(0, 500), lanes=st.integers(1, 64))
def test_bounds_hold_and_every_tenant_with_room_is_asked(
    candidates: list[Candidate], room: int, lanes: int
) -> None:
    plan = asked(candidates, room=room, lanes=lanes)
    by_lane = {c.lane: c for c in candidates}
    assert len(plan) <= lanes
    if not room:
        assert not plan
        return
    assert bool(plan) is bool(candidates)
    for lane, most in plan.items():
        assert 1 <= most <= min(room, by_lane[lane].most or room)
    tenants = {c.tenant for c in candidates}
    got = {by_lane[lane].tenant for lane in plan}
    if lanes >= len(tenants):
        assert got == tenants
    else:  # those that have had least
        assert got == set(sorted(tenants)[:lanes])
    rows = Counter(by_lane[lane].tenant for lane in plan)
    for tenant in got:
        total = sum(most for lane, most in plan.items() if by_lane[lane].tenant == tenant)
        assert total <= room + 3 * rows[tenant]


def test_one_lane_gets_the_whole_room() -> None:
    assert asked([Candidate(lane=1, tenant="a", project="p")]) == {1: 100}


def test_projects_get_equal_parts_whatever_their_number_of_lanes() -> None:
    candidates = [Candidate(lane=n, tenant="a", project="p") for n in range(9)]
    candidates.append(Candidate(lane=99, tenant="a", project="q"))
    plan = asked(candidates)
    assert plan[99] == 50
    assert 50 <= sum(most for lane, most in plan.items() if lane != 99) <= 59


def test_lanes_beyond_the_bound_take_turns() -> None:
    seen: Counter[int] = Counter()
    last = dict.fromkeys(range(500), 0)
    for turn in range(1, 9):
        candidates = [Candidate(lane=n, tenant="a", project="p", asked=last[n]) for n in last]
        for lane in asked(candidates):
            seen[lane] += 1
            last[lane] = turn
    assert set(seen) == set(last)
    assert max(seen.values()) <= 2
