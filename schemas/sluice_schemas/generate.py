"""Writes the generated files of the contract, or checks that they are fresh.

`python -m sluice_schemas.generate` writes `schemas/generated/` and the vectors;
`--check` exits 1 and names what is stale, missing or left over.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from pydantic import BaseModel

from sluice_schemas import control, events, headers, jobs, results, usage
from sluice_schemas.asyncapi import asyncapi
from sluice_schemas.errors import MEANINGS
from sluice_schemas.vectors import identity_vectors, signature_vectors

ROOT: Final = Path(__file__).resolve().parent.parent

_MODELS: Final[dict[str, type[BaseModel]]] = {
    "job": jobs.Job,
    "job-headers": headers.JobHeaders,
    "cancel": control.Cancel,
    "result": results.Result,
    "result-headers": headers.ResultHeaders,
    "delta": results.Delta,
    "delta-headers": headers.DeltaHeaders,
    "usage": usage.Usage,
    "event-headers": headers.EventHeaders,
    "dead-letter-headers": headers.DeadLetterHeaders,
    "alert": events.Alert,
    "audit": events.Audit,
    "run-completed": events.RunCompleted,
}


def generated() -> dict[str, bytes]:
    """Every generated file: its path under `schemas/`, and its bytes."""
    files = {f"generated/{name}.json": _schema(name, model) for name, model in _MODELS.items()}
    codes = {
        code.value: {
            "status": meaning.status,
            "retryable": meaning.retryable,
            "advice": meaning.advice,
        }
        for code, meaning in MEANINGS.items()
    }
    files["generated/error-codes.json"] = _json(codes)
    text = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=100)
    files["generated/asyncapi.yaml"] = text.encode()
    files["vectors/identity.json"] = _json(identity_vectors())
    files["vectors/signature.json"] = _json(signature_vectors())
    return files


def _schema(name: str, model: type[BaseModel]) -> bytes:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sluicegate:schema:{name}:v1",
    }
    return _json(schema | model.model_json_schema(by_alias=True))


def _json(data: Any) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def stale(root: Path = ROOT) -> list[str]:
    """The paths under `root` that differ from what would be written, or that nothing writes."""
    files = generated()
    found = [
        name
        for name, content in files.items()
        if not (root / name).is_file() or (root / name).read_bytes() != content
    ]
    present = {f"generated/{path.name}" for path in (root / "generated").glob("*")}
    return sorted([*found, *(present - files.keys())])


def write(root: Path = ROOT) -> None:
    """Write every generated file under `root`, and remove what nothing writes any more."""
    files = generated()
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for path in (root / "generated").glob("*"):
        if f"generated/{path.name}" not in files:
            path.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 where `--check` finds something stale."""
    parser = argparse.ArgumentParser(prog="sluice schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    names = stale()
    for name in names:
        sys.stderr.write(f"schemas/{name} is stale; run: make generate\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
