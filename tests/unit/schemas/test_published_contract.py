"""The contract as code against the contract as written."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sluice_schemas.classes import JobClass
from sluice_schemas.errors import MEANINGS, ErrorCode
from sluice_schemas.generate import generated, main, stale, write
from sluice_schemas.results import Result
from sluice_schemas.topics import CONTROL_GROUP, Topics, group_of, topic_specs

CODES = """invalid_record invalid_signature unauthorized forbidden unknown_model unsupported_url
unknown_project reply_not_allowed idempotency_conflict too_large rate_limited budget_exceeded
budget_busy concurrency_exceeded deadline_exceeded cancelled provider_error provider_timeout
provider_unavailable provider_rate_limited provider_invalid_response provider_auth
context_length_exceeded content_filtered stream_interrupted outcome_unknown guardrail_blocked
internal"""

RESULT = """{"id": "5fd924b5-5b47-5b24-a0b8-7a3a2ad2e9a6", "custom_id": "row-17",
 "response": {"status_code": 200, "request_id": "r", "body": {"model": "fast"}}, "error": null,
 "job": {"state": "succeeded", "class": "bulk", "attempts": 1, "run_id": null, "model": "fast",
  "account": "openai", "provider_model": "gpt-4o-mini",
  "usage": {"input_tokens": 57, "cache_read_tokens": 0, "cache_write_tokens": 0,
            "output_tokens": 25, "reasoning_tokens": 0},
  "cost_usd": "0.000023550", "execution": 1, "queued_ms": 12, "provider_ms": 480, "total_ms": 501,
  "cache": "miss", "deltas": 0, "warnings": [], "error": null}}"""


def test_codes_are_the_closed_list() -> None:
    assert [code.value for code in ErrorCode] == CODES.split()
    assert set(MEANINGS) == set(ErrorCode)
    assert all(400 <= meaning.status < 600 and meaning.advice for meaning in MEANINGS.values())


def test_names_of_topics_and_groups() -> None:
    topics = Topics()
    assert [topics.jobs(job_class) for job_class in JobClass] == [
        "llm.jobs.realtime.v1",
        "llm.jobs.standard.v1",
        "llm.jobs.bulk.v1",
    ]
    assert topics.results("acme") == "llm.results.acme.v1"
    assert topics.replies("acme") == "llm.replies.acme.v1"
    assert topics.shared()[3:] == (
        "llm.control.v1",
        "llm.usage.v1",
        "llm.deadletter.v1",
        "llm.alerts.v1",
        "llm.audit.v1",
        "llm.runs.v1",
    )
    assert Topics(prefix="x-").usage == "x-usage.v1"
    assert [group_of(job_class) for job_class in JobClass] == [
        "sluice.realtime.v1",
        "sluice.standard.v1",
        "sluice.bulk.v1",
    ]
    assert CONTROL_GROUP == "sluice.control.v1"
    assert all(JobClass.from_label(job_class.label) is job_class for job_class in JobClass)
    with pytest.raises(ValueError, match="no class"):
        JobClass.from_label("BULK")


def test_settings_of_topics() -> None:
    specs = topic_specs(
        Topics(), record_bytes=1000, tenants=["acme"], intake_jobs=["my.jobs"], intake_control=["c"]
    )
    settings = {spec.name: spec.settings for spec in specs}
    assert len(settings) == len(specs) == 3 + 1 + 2 + 2 + 4 + 1
    for name in ("llm.jobs.realtime.v1", "my.jobs"):
        assert settings[name] == {
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "max.message.bytes": str(1000 + 65536),
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "uncompressed",
        }
    for name in ("llm.control.v1", "c"):
        assert settings[name]["retention.ms"] == "604800000"
        assert settings[name]["message.timestamp.type"] == "LogAppendTime"
    assert settings["llm.results.acme.v1"]["retention.ms"] == "604800000"
    assert settings["llm.replies.acme.v1"]["retention.ms"] == "3600000"
    assert settings["llm.usage.v1"]["retention.ms"] == "2592000000"
    assert settings["llm.deadletter.v1"]["max.message.bytes"] == str(1000 + 131072)


def test_the_written_example_is_a_result() -> None:
    raw = json.loads(RESULT)
    result = Result.model_validate(raw)
    assert result.model_dump(by_alias=True, mode="json") == raw
    for field in raw["job"]:
        short = raw | {"job": {name: value for name, value in raw["job"].items() if name != field}}
        with pytest.raises(ValueError, match=field):
            Result.model_validate(short)
    grown = raw | {"new": 1}
    assert Result.model_validate(grown).model_dump(by_alias=True, mode="json") == grown


def test_generated_files_are_fresh_and_staleness_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stale() == []
    assert main(["--check"]) == 0
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "generated" / "job.json").write_text("{}")
    (tmp_path / "generated" / "left-over.json").write_text("{}")
    (tmp_path / "vectors" / "identity.json").unlink()
    assert stale(tmp_path) == [
        "generated/job.json",
        "generated/left-over.json",
        "vectors/identity.json",
    ]
    write(tmp_path)
    assert stale(tmp_path) == []
    assert capsys.readouterr().err == ""


def test_asyncapi_says_what_producers_need() -> None:
    document = yaml.safe_load(generated()["generated/asyncapi.yaml"])
    assert document["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {"llm.jobs.bulk.v1", "llm.results.{tenant}.v1", None} <= addresses
    bulk = document["operations"]["receiveBulk"]
    assert bulk["bindings"]["kafka"]["groupId"]["const"] == "sluice.bulk.v1"
    assert bulk["reply"]["address"]["location"] == "$message.header#/reply_to"
    job = document["components"]["messages"]["job"]
    assert job["correlationId"]["location"] == "$message.header#/correlation_id"
    references = json.dumps(document).split('"$ref": "')[1:]
    for reference in {text.partition('"')[0] for text in references}:
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


def test_vectors_are_recomputed_by_node() -> None:
    node = shutil.which("node")
    assert node, "node is needed to check the published vectors"
    script = Path(__file__).parents[3] / "schemas" / "vectors" / "check.mjs"
    ran = subprocess.run(
        [node, str(script)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert "0 differences" in ran.stdout
