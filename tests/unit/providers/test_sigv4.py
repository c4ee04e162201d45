"""Signatures are those of AWS's published examples and test suite, and those of its own SDK."""

from datetime import UTC, datetime

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.calls import call_of

from sluice_providers.bedrock import BedrockAdapter, keys_of
from sluice_providers.sigv4 import Keys, Signable, signed, signing_key

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = Keys(access="AKIDEXAMPLE", secret=SECRET)
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HOST = {"host": "example.amazonaws.com"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "content", "signature"),
    [
        # aws-sig-v4-test-suite: get-vanilla, post-vanilla, get-vanilla-query-order-key-case,
        # post-x-www-form-urlencoded, get-header-value-trim
        (
            "GET",
            "/",
            "",
            {},
            b"",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "/",
            "",
            {},
            b"",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "GET",
            "/",
            "Param2=value2&Param1=value1",
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "POST",
            "/",
            "",
            FORM,
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "GET",
            "/",
            "",
            {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
            b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
    ],
)
def test_the_published_suite(
    method: str, path: str, query: str, headers: dict[str, str], content: bytes, signature: str
) -> None:
    request = Signable(
        method=method, path=path, query=query, headers=HOST | headers, content=content
    )
    sent = signed(request, KEYS, region="us-east-1", service="service", at=AT)
    assert sent["x-amz-date"] == "20150830T123600Z"
    assert sent["authorization"].endswith(f"Signature={signature}")
    assert sent["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, Signed"
    )


def test_the_published_key_and_example() -> None:
    key = signing_key(SECRET, day="20150830", region="us-east-1", service="iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    request = Signable(
        method="GET",
        path="/",
        query="Action=ListUsers&Version=2010-05-08",
        headers={
            "host": "iam.amazonaws.com",
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        },
        content=b"",
    )
    sent = signed(request, KEYS, region="us-east-1", service="iam", at=AT)
    assert sent["authorization"].endswith(
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@given(
    path=st.lists(st.text("ab:.%~@ü+=", min_size=1), max_size=3),
    content=st.binary(max_size=20),
    session=st.none() | st.text("abc+/=", min_size=1),
)
def test_signatures_are_those_of_botocore(
    path: list[str], content: bytes, session: str | None
) -> None:
    from yarl import URL

    url = URL.build(scheme="https", host="bedrock-runtime.eu-west-1.amazonaws.com")
    for piece in path:
        url = url / piece if piece not in {".", ".."} else url
    at = datetime.now(UTC)
    theirs = AWSRequest(method="POST", url=str(url), data=content)
    SigV4Auth(Credentials("AKID", SECRET, session), "bedrock", "eu-west-1").add_auth(theirs)
    at = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = signed(
        Signable(
            method="POST",
            path=url.raw_path,
            query="",
            headers={"host": url.host_port_subcomponent or ""},
            content=content,
        ),
        Keys(access="AKID", secret=SECRET, session=session),
        region="eu-west-1",
        service="bedrock",
        at=at,
    )
    assert ours["authorization"] == theirs.headers["Authorization"]


@pytest.mark.parametrize(
    ("key", "base", "options", "scope"),
    [
        ("AK:s3cret/+=", "https://vpce.example:8443", {"region": "eu-west-1"}, "eu-west-1"),
        ("AK:s3cret:tok", "https://vpce.example", {"region": "us-west-2"}, "us-west-2"),
        ("ABSKbearer", "https://vpce.example", {}, None),
    ],
)
def test_calls_are_signed_or_bear_a_token(
    key: str, base: str, options: dict[str, str], scope: str | None
) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    model = "amazon.nova-lite-v1:0"
    call = call_of("bedrock", api_key=key, base_url=base, model=model, options=options)
    outgoing = BedrockAdapter().outgoing(call, body)
    headers = dict(outgoing.headers)
    assert outgoing.url == f"{base}/model/amazon.nova-lite-v1:0/converse"
    assert "s3cret" not in str(headers)
    if scope is None:
        assert headers == {"authorization": "Bearer ABSKbearer"}
        return
    assert f"/{scope}/bedrock/aws4_request" in headers["authorization"]
    assert headers.get("x-amz-security-token") == ("tok" if key.endswith(":tok") else None)
    assert orjson.loads(outgoing.content)["messages"][0]["content"] == [{"text": "hi"}]


def test_keys_stand_in_one_secret() -> None:
    assert keys_of("token") is None
    assert keys_of("A:b") == Keys(access="A", secret="b")
    assert keys_of("A:b:c") == Keys(access="A", secret="b", session="c")
