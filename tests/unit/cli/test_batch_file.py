import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_cli.batch_file import (
    BadLine,
    Line,
    bad_output_line,
    collected,
    default_run,
    line_key,
    output_line,
    read_lines,
)

_BODY = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}


def _line(**fields: object) -> bytes:
    return json.dumps({"custom_id": "a", "body": _BODY} | fields).encode() + b"\n"


def _read(*texts: bytes) -> list[Line | BadLine]:
    return list(read_lines(texts, run="night"))


def test_a_line_becomes_a_job_of_its_run() -> None:
    (line,) = _read(_line(options={"project": "search"}))
    assert isinstance(line, Line)
    assert line.job["body"] == _BODY
    assert line.job["options"] == {
        "project": "search",
        "idempotency_key": "night/a",
        "run_id": "night",
    }


def test_a_line_keeps_its_own_key_and_gets_a_name() -> None:
    (line,) = _read(json.dumps({"body": _BODY, "options": {"idempotency_key": "mine"}}).encode())
    assert isinstance(line, Line)
    assert line.custom_id == "line-1"
    assert line.job["options"]["idempotency_key"] == "mine"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{broken", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (_line(body={}), "body.model: is missing"),
        (_line(url="/v1/nothing"), "url '/v1/nothing' is not supported"),
        (_line(body=[]), "line 1: body: must be a JSON object"),
        (_line(body=None), "line 1: body: must be a JSON object"),
        (_line(body=_BODY, options=[]), "line 1: options: must be a JSON object"),
        (_line(body=_BODY, options={"tags": 1}), "line 1: options.tags: must be a JSON object"),
        (_line(body={"model": 5}), "line 1: body.model: must be a string"),
        (_line(body={"model": "m", "messages": 5}), "line 1: body.messages: must be a list"),
        (_line(body={"model": "m", "messages": [5]}), "body.messages.0: must be a JSON object"),
        (_line(body={"model": "m", "input": 5}), "line 1: body.input: must be a text or a list"),
        (_line(method="GET"), "method:"),
        (_line(custom_id="x" * 257), "custom_id:"),
    ],
)
def test_a_bad_line_is_named_and_the_others_go_on(text: bytes, reason: str) -> None:
    bad, good = _read(text, _line(custom_id="b"))
    assert isinstance(bad, BadLine)
    assert bad.message.startswith("line 1: ")
    assert reason in bad.message
    assert not {"Body", "Options", "dictionary", "instance"} & set(bad.message.split())
    assert isinstance(good, Line)


def test_a_custom_id_counts_once_and_blank_lines_not_at_all() -> None:
    first, second = _read(_line(), b"\n", _line())
    assert isinstance(first, Line)
    assert isinstance(second, BadLine)
    assert second.message == "line 3: custom_id 'a' stands on line 1 already"


def test_keys_are_readable_where_they_fit() -> None:
    assert line_key("night", "row-1") == "night/row-1"
    long = line_key("night", "x" * 255)
    assert long.startswith("sha256:")
    assert long != line_key("night", "y" * 255)


def test_the_same_content_is_the_same_run() -> None:
    assert default_run("q", [b"a\n", b"b\n"]) == default_run("q", [b"a\nb\n"])
    assert default_run("q", [b"a"]) != default_run("q", [b"b"])


def test_output_lines_are_as_openai_writes_them() -> None:
    line = json.loads(
        output_line(
            job_id="j",
            custom_id="a",
            status_code=200,
            request_id="req-1",
            body={"x": 1},
            error=None,
        )
    )
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert line["response"] == {"status_code": 200, "request_id": "req-1", "body": {"x": 1}}
    bad = json.loads(bad_output_line(BadLine(number=3, custom_id=None, reason="not JSON")))
    assert bad["error"] == {"code": "invalid_line", "message": "line 3: not JSON"}


@given(st.integers(min_value=0, max_value=200))
def test_a_cut_output_file_resumes_at_its_last_whole_line(cut: int) -> None:
    lines = [
        output_line(
            job_id="j", custom_id=f"c{n}", status_code=200, request_id=None, body={}, error=None
        )
        for n in range(5)
    ]
    content = b"".join(lines)[:cut]
    found, size = collected(content.splitlines(keepends=True))
    whole = content.count(b"\n")
    assert found == {f"c{n}" for n in range(whole)}
    assert size == sum(len(line) for line in lines[:whole])


def test_names_that_repeat_are_found_among_many() -> None:
    texts = [
        json.dumps({"custom_id": f"row-{n % 9_000}", "body": _BODY}).encode() for n in range(9_100)
    ]
    bad = [line for line in read_lines(texts, run="r") if isinstance(line, BadLine)]
    assert [line.number for line in bad] == list(range(9_001, 9_101))
    assert bad[99].reason == "custom_id 'row-99' stands on line 100 already"
