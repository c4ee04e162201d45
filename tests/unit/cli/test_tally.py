from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_cli.demo.jobs import packaged
from sluice_cli.demo.show import answer_text, samples
from sluice_cli.demo.tally import Tally, percentile
from sluice_schemas.classes import JobClass
from sluice_schemas.jobs import Job


def _result(custom_id: str, state: str = "succeeded", queued_ms: int = 5) -> dict[str, Any]:
    return {"custom_id": custom_id, "job": {"state": state, "queued_ms": queued_ms, "attempts": 1}}


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0.0), ([7], 0.99, 7), ([1, 2, 3, 4], 0.5, 2), (list(range(1, 101)), 0.99, 99)],
)
def test_percentiles_are_of_the_nearest_rank(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_enough_do_not_exceed(values: list[int], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_every_job_counts_once() -> None:
    tally = Tally({"bulk": ["a", "b"], "realtime": ["c"]})
    assert tally.take(_result("a")) == "bulk"
    assert tally.take(_result("a")) is None
    assert tally.take(_result("stranger")) is None
    assert tally.take(_result("c", "failed", 9)) == "realtime"
    assert tally.missing == ["b"]
    assert tally.states() == ["succeeded", "failed"]
    assert tally.classes["realtime"].queued_ms == [9]
    assert tally.attempts() == 2


def test_the_packaged_jobs_are_valid_varied_and_named_once() -> None:
    jobs = packaged("run")
    everything = [job for of_class in jobs.values() for job in of_class]
    assert set(jobs) == set(JobClass)
    assert len(everything) == 1000
    assert len({job.custom_id for job in everything}) == 1000
    assert (
        len({Job.model_validate_json(job.value).body.model_dump_json() for job in everything})
        == 1000
    )
    assert sum(job.streams for job in everything) > 20


def test_an_answer_is_shown_in_a_line() -> None:
    chat = {"choices": [{"message": {"content": "two\nlines", "tool_calls": None}}]}
    tools = {
        "choices": [
            {
                "message": {
                    "content": None,
                    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                }
            }
        ]
    }
    vectors = {"object": "list", "data": [{"embedding": [1, 2, 3]}]}
    shown = [answer_text({"response": {"body": body}}) for body in (chat, tools, vectors)]
    assert shown == ["two lines", "f({})", "1 vectors of 3 numbers"]
    failed = {"response": None, "error": {"code": "internal"}, "job": {"state": "failed"}}
    assert answer_text(failed) == "(failed: internal)"
    assert samples({"tool-1": failed}) == [("tool-1", "(failed: internal)")]
