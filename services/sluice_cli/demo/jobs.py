"""The packaged jobs, per class, as records to send."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sluice_schemas.classes import JobClass


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """A job's `custom_id` and its value; `streams` where deltas are asked for."""

    custom_id: str
    value: bytes
    streams: bool


def packaged(run_id: str) -> dict[JobClass, list[DemoJob]]:
    """About a thousand jobs over the three classes, all under one run."""
    return {
        job_class: [
            _job(json.loads(line), run_id)
            for line in files("sluice_cli.demo")
            .joinpath(f"{job_class.label}.jsonl")
            .read_text(encoding="utf-8")
            .splitlines()
        ]
        for job_class in JobClass
    }


def _job(line: dict[str, Any], run_id: str) -> DemoJob:
    line["options"]["run_id"] = run_id
    return DemoJob(
        custom_id=line["custom_id"],
        value=json.dumps(line, ensure_ascii=False).encode(),
        streams=bool(line["body"].get("stream")),
    )
