"""The static member that a worker is: another one where it reads other topics."""

from sluice_worker.main import member_name

USUAL = "llm.jobs.bulk.v1"


def test_a_worker_without_a_stable_name_is_no_static_member() -> None:
    assert member_name(None, [USUAL, "mine"], usual=USUAL) is None


def test_a_worker_of_the_usual_topic_is_the_member_of_its_name() -> None:
    assert member_name("worker-1", [USUAL], usual=USUAL) == "worker-1"


def test_other_topics_make_another_member_whatever_their_order() -> None:
    one = member_name("worker-1", [USUAL, "a", "b"], usual=USUAL)
    assert one == member_name("worker-1", [USUAL, "b", "a"], usual=USUAL)
    assert one is not None
    assert one.startswith("worker-1-")
    others = {member_name("worker-1", names, usual=USUAL) for names in ([USUAL], [USUAL, "a"])}
    assert one not in others
    assert len(others) == 2
