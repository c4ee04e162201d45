"""What the ledger does not take is refused under the id of its record."""

from tests.unit.intake.intake_world import job, record

from sluice_worker.entries import conflict

KEYED = {"idempotency_key": "k"}


def test_a_conflict_is_correlated_with_its_own_record_not_with_the_job_it_conflicts_with() -> None:
    made = job(record(options=KEYED))
    assert made.requester.correlation_id == str(made.id).encode()
    assert conflict(made).requester.correlation_id == str(made.record_id).encode()


def test_a_correlation_that_the_record_names_is_kept() -> None:
    made = job(record(options=KEYED))
    for named in ("mine", str(made.id)):
        again = job(record(options=KEYED, headers={"correlation_id": named}))
        assert conflict(again).requester.correlation_id == named.encode()
