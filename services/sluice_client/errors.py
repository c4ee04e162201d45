"""What a client raises.

ClientError
├── NotConfigured        an argument or a SLUICE_ variable is missing or wrong
├── NotConnected         Kafka cannot be reached, or lets nobody in by this name
├── NotAccepted          Kafka did not take the record
├── RepliesUnreadable    the reply topic does not exist or cannot be read
├── ReplyTimeout         no result in time; the job goes on
├── JobFailed            the job ended, but not in `succeeded`
├── ResultTooLarge       the job succeeded; its result did not fit in a record
└── StreamInterrupted    pieces of a stream are missing
"""

from sluice_client.model import Result, Submitted


class ClientError(Exception):
    """Anything that a client raises by itself."""


class NotConfigured(ClientError):
    """The client cannot be made as asked; the message says what to set."""


class NotConnected(ClientError):
    """Kafka cannot be reached, refuses the login, or lets this user write nothing; the message says what to check."""


class NotAccepted(ClientError):
    """Kafka did not confirm the record, and it may or may not have arrived.

    With an idempotency key it is safe to send it again.
    """


class RepliesUnreadable(ClientError):
    """The reply topic cannot be read; the cause says why."""


class ReplyTimeout(ClientError):
    """No result came in time. The job goes on: `submitted` says how to ask for it again."""

    def __init__(self, submitted: Submitted, waited_s: float) -> None:
        name = submitted.idempotency_key
        again = (
            f"idempotency_key={name!r}"
            if name is not None
            else f"event=EventName(source={submitted.event.source!r}, id={submitted.event.id!r})"
        )
        super().__init__(
            f"no result of job {submitted.id} within {waited_s:g} s; the job goes on. Wait for it "
            f"with client.attach(the same body, {again}), or end it with client.cancel(id=…)"
        )
        self.submitted = submitted
        self.waited_s = waited_s


class JobFailed(ClientError):
    """The job ended in another state than `succeeded`; `result` is all that is known of it."""

    def __init__(self, result: Result) -> None:
        error = result.error
        self.code = error.code if error is not None else "internal"
        self.message = error.message if error is not None else "the result names no error"
        super().__init__(f"job {result.id} {result.state}: {self.code}: {self.message}")
        self.result = result


class ResultTooLarge(ClientError):
    """The job succeeded, but its answer did not fit in a record and no HTTP edge is known."""

    def __init__(self, result: Result) -> None:
        super().__init__(
            f"the answer of job {result.id} is too large for a record: read it with "
            f"`sluice jobs result {result.id}`, or set SLUICE_API to an HTTP edge"
        )
        self.result = result


class StreamInterrupted(ClientError):
    """Pieces of a stream are missing, so what was read is not the whole answer.

    `result` is the job's result where it has arrived: its body is whole if the job succeeded.
    """

    def __init__(self, reason: str, result: Result | None = None) -> None:
        super().__init__(reason)
        self.result = result
