"""How many jobs of a lane are held while a limit refuses some."""

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.dispatch.window import FORGOTTEN, UNBOUNDED, Windows


def test_without_a_refusal_there_is_no_bound() -> None:
    windows = Windows()
    for _ in range(1_000):
        windows.begun(1, 5.0)
    assert windows.size(1) is None


def test_a_refusal_leaves_what_the_last_second_carried() -> None:
    windows = Windows()
    for step in range(40):
        windows.begun(1, 10.0 + step / 40)
    assert windows.refused(1, 11.01) == 40
    assert windows.refused(1, 11.5) == 40
    assert windows.refused(1, 60.0) == 1
    assert windows.refused(2, 60.0) == 1
    assert windows.size(3) is None


def test_a_whole_window_without_refusal_doubles_it_until_it_bounds_nothing() -> None:
    windows = Windows()
    windows.refused(1, 0.0)
    sizes = []
    while (size := windows.size(1)) is not None:
        sizes.append(size)
        for _ in range(size):
            windows.begun(1, 0.5)
    assert sizes == [2**n for n in range(12)]
    assert sizes[-1] * 2 == UNBOUNDED


def test_a_refusal_in_between_begins_the_window_anew() -> None:
    windows = Windows()
    windows.refused(1, 0.0)
    windows.begun(1, 0.1)
    windows.begun(1, 0.2)
    assert windows.size(1) == 2
    windows.refused(1, 0.3)
    assert windows.size(1) == 2
    windows.begun(1, 0.4)
    assert windows.size(1) == 2


@given(events=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 3)), max_size=200))
def test_a_window_always_lets_one_through(events: list[tuple[int, bool, float]]) -> None:
    windows, now = Windows(), 0.0
    for lane, begun, seconds in events:
        now += seconds
        (windows.begun if begun else windows.refused)(lane, now)
        size = windows.size(lane)
        assert size is None or size >= 1


def test_lanes_without_number_do_not_fill_the_memory() -> None:
    windows = Windows()
    for lane in range(3 * FORGOTTEN):
        windows.begun(lane, float(lane))
    assert len(windows._paces) <= FORGOTTEN
