"""Records of the client: what they say, how they are signed, and the id their job will have."""

import orjson
import pytest

from sluice_client.envelope import Envelopes, SigningKey
from sluice_client.model import EventName, Job, JobOptions
from sluice_schemas.identity import id_by_event, id_by_key
from sluice_schemas.signature import CallerName, SignedFields, hmac_key, verify

_BODY = {"model": "fast", "messages": [{"role": "user", "content": "é"}]}
_NOW = 1_764_000_000.25


def envelopes(key: SigningKey | None = None) -> Envelopes:
    return Envelopes(tenant="acme", source="/me", key=key)


def test_a_plain_job_is_its_body_and_names_itself() -> None:
    outgoing, submitted = envelopes().job(Job(body=_BODY), topic="jobs", now=_NOW)
    assert orjson.loads(outgoing.value) == {"body": _BODY}
    said = dict(outgoing.headers)
    assert said["ce_id"].decode() == submitted.event.id == submitted.correlation_id
    assert said["ce_source"] == b"/me"
    assert said["ce_time"] == b"2025-11-24T16:00:00.250000Z"
    assert "reply_to" not in said
    assert "sluice-signature" not in said
    assert submitted.id == id_by_event("acme", "/me", submitted.event.id)


def test_every_part_of_a_line_is_written() -> None:
    job = Job(
        body=_BODY, custom_id="c", url="/v1/embeddings", options=JobOptions(idempotency_key="k")
    )
    outgoing, submitted = envelopes().job(job, topic="jobs", now=_NOW, reply_to="replies")
    assert orjson.loads(outgoing.value) == {
        "custom_id": "c",
        "url": "/v1/embeddings",
        "body": _BODY,
        "options": {"idempotency_key": "k"},
    }
    assert dict(outgoing.headers)["reply_to"] == b"replies"
    assert submitted.id == id_by_key("acme", "k")
    assert submitted.idempotency_key == "k"


def test_ids_are_unique_to_a_client_and_between_clients() -> None:
    makers = [envelopes() for _ in range(3)]
    ids = [
        maker.job(Job(body={}), topic="t", now=_NOW)[1].correlation_id
        for maker in makers
        for _ in range(5)
    ]
    assert len(set(ids)) == 15


def test_a_named_event_keeps_its_job_and_gets_a_correlation_of_its_own() -> None:
    event = EventName(source="/other", id="17")
    outgoing, submitted = envelopes().job(Job(body={}), topic="t", now=_NOW, event=event)
    assert dict(outgoing.headers)["ce_id"] == b"17"
    assert submitted.correlation_id != "17"
    assert submitted.id == id_by_event("acme", "/other", "17")


def test_signatures_verify_and_cover_caller_and_reply_address() -> None:
    material = hmac_key("sgs_secret")
    maker = envelopes(SigningKey(id="sgk_1", material=material))
    caller = CallerName(tenant="other", team="ml", project="p", app="", user="joão")
    outgoing, submitted = maker.job(
        Job(body=_BODY), topic="jobs", now=_NOW, reply_to="replies", on_behalf_of=caller
    )
    said = dict(outgoing.headers)
    assert submitted.id == id_by_event("other", "/me", submitted.event.id)
    assert said["sluice-on-behalf-of"] == b"other/ml/p//jo%C3%A3o"

    def verifies(**changes: bytes) -> bool:
        fields = {
            "topic": b"jobs",
            "key_id": b"sgk_1",
            "ce_id": said["ce_id"],
            "ce_source": said["ce_source"],
            "ce_time": said["ce_time"],
            "correlation_id": said["correlation_id"],
            "reply_to": b"replies",
            "on_behalf_of": said["sluice-on-behalf-of"],
        }
        signed = SignedFields(**{**fields, **changes})
        return verify(material, said["sluice-signature"], signed, outgoing.value)

    assert verifies()
    for name in ("topic", "reply_to", "on_behalf_of", "ce_time", "correlation_id"):
        assert not verifies(**{name: b"changed"})


def test_a_cancel_is_signed_too() -> None:
    material = hmac_key("s")
    maker = envelopes(SigningKey(id="k", material=material))
    outgoing = maker.control({"run_id": "r"}, topic="control", now=_NOW)
    said = dict(outgoing.headers)
    fields = SignedFields(
        topic=b"control",
        key_id=b"k",
        ce_id=said["ce_id"],
        ce_source=said["ce_source"],
        ce_time=said["ce_time"],
    )
    assert verify(material, said["sluice-signature"], fields, outgoing.value)
    assert orjson.loads(outgoing.value) == {"run_id": "r"}


def test_a_signing_key_does_not_show_its_material() -> None:
    assert "material" not in repr(SigningKey(id="k", material=b"secret"))


def test_a_batch_line_becomes_a_job() -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"}}
    assert Job.from_line(line) == Job(body={"model": "m"}, custom_id="a", url="/v1/embeddings")
    with pytest.raises(KeyError):
        Job.from_line({"custom_id": "a"})
