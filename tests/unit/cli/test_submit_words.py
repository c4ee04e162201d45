"""What `sluice submit` says where it cannot go on."""

from sluice_cli.submit import why
from sluice_client.errors import NotAccepted, ReplyTimeout
from sluice_client.model import EventName, Submitted


def test_a_timeout_speaks_of_the_job_and_not_of_the_client() -> None:
    submitted = Submitted(
        tenant="acme",
        event=EventName(source="/sluice/submit", id="e"),
        correlation_id="c",
        idempotency_key="night/a",
        topic="llm.jobs.bulk.v1",
    )
    said = why(ReplyTimeout(submitted, 90.0))
    assert said == f"no result of job {submitted.id} within 90 s; the job goes on"
    assert why(NotAccepted("Kafka is away")) == "Kafka is away"
