"""Keys of callers and of providers, and the master key that seals them."""

import json
import secrets
from hashlib import sha256

import pytest
from tests.integration.cli.shell import Shell

from sluice_schemas.signature import hmac_key

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]


async def test_a_providers_key_is_kept_and_never_shown(sluice: Shell) -> None:
    kept = await sluice("provider-keys", "set", "openai", "--json", typed="sk-very-secret\n")
    assert kept.json["fingerprint"] == sha256(b"sk-very-secret").hexdigest()[:12]
    listed = await sluice("provider-keys", "list")
    assert kept.json["fingerprint"] in listed.out
    assert "very-secret" not in kept.out + listed.out
    stored = await sluice.pool.fetchval("select sealed from sluice.provider_keys")
    assert b"very-secret" not in stored
    for arguments, typed, said in (
        (("set", "opneai"), "sk", 'no provider "opneai" is configured'),
        (("set", "openai"), " ", "is empty"),
        (("set", "openai", "--name", "a b"), "sk", "names no key"),
        (("remove", "openai", "--name", "other"), None, "see `sluice provider-keys list`"),
    ):
        refused = await sluice("provider-keys", *arguments, typed=typed)
        assert (refused.code, said in refused.err) == (1, True), refused.err
    assert (await sluice("provider-keys", "remove", "openai")).code == 0
    assert (await sluice("provider-keys", "list", "--json")).json == []
    assert await sluice.audited() == ["provider_key.set", "provider_key.remove"]


async def test_a_key_is_created_rotated_and_revoked(sluice: Shell) -> None:
    created = await sluice("keys", "create", "--tenant", "acme", "--project", "search", "--json")
    made = created.json
    assert set(made) == {"id", "secret"}
    rotated = (await sluice("keys", "rotate", made["id"], "--overlap", "1h", "--json")).json
    assert (await sluice("keys", "revoke", made["id"], "--json")).json["revoked"] is True
    again = await sluice("keys", "revoke", made["id"])
    assert again.code == 1
    listed = {key["id"]: key for key in (await sluice("keys", "list", "--json")).json}
    assert listed[made["id"]]["state"] == "revoked"
    assert listed[rotated["id"]]["project"] == "search"
    assert made["secret"] not in (await sluice("keys", "list")).out
    assert await sluice.audited() == ["key.create", "key.rotate", "key.revoke"]
    assert (
        await sluice.pool.fetchval("select version from sluice.versions where name = 'keys'") == 4
    )


async def test_a_key_signs_as_intake_reads_it(sluice: Shell) -> None:
    from sluice_core.keys.repository import KeyRepository

    made = (await sluice("keys", "create", "--tenant", "acme", "--grant", "vouch", "--json")).json
    master = bytes.fromhex(sluice.environment["SLUICE_MASTER_KEY"])
    (key,) = (await KeyRepository(sluice.pool).all((master,))).values()
    assert key.hmac_key == hmac_key(made["secret"])
    assert key.grants == {"vouch"}


async def test_no_key_is_made_under_another_master_key(sluice: Shell) -> None:
    made = (await sluice("keys", "create", "--tenant", "acme", "--json")).json
    ours = sluice.environment["SLUICE_MASTER_KEY"]
    sluice.environment["SLUICE_MASTER_KEY"] = secrets.token_hex(32)
    for command in (("create", "--tenant", "acme"), ("rotate", made["id"])):
        refused = await sluice("keys", *command)
        assert refused.code == 1
        assert f"{made['id']} does not open under this SLUICE_MASTER_KEY" in refused.err
    found = json.loads((await sluice("doctor", "--json")).out)["findings"]
    (finding,) = [finding for finding in found if finding["check"] == "keys"]
    assert (finding["level"], made["id"] in finding["message"]) == ("problem", True)
    assert (await sluice("keys", "revoke", made["id"])).code == 0
    assert (await sluice("keys", "create", "--tenant", "acme")).code == 0
    sluice.environment["SLUICE_MASTER_KEY"] = ours
    assert await sluice.audited() == ["key.create", "key.revoke", "key.create"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tenant", "acne"), 'did you mean "acme"?'),
        (("--tenant", "acme", "--project", "sorch"), 'did you mean "search"?'),
        (("--tenant", "acme", "--grant", "everything"), "the grants are: vouch"),
        (("--tenant", "acme", "--expires", "0s"), "--expires must be longer"),
    ],
)
async def test_a_key_for_nobody_is_refused(
    sluice: Shell, arguments: tuple[str, ...], message: str
) -> None:
    ran = await sluice("keys", "create", *arguments)
    assert ran.code == 1
    assert message in ran.err


async def test_a_master_key_is_replaced(sluice: Shell) -> None:
    made = (await sluice("keys", "create", "--tenant", "acme", "--json")).json
    old = sluice.environment["SLUICE_MASTER_KEY"]
    alone = await sluice("keys", "rotate-master")
    assert (alone.code, "SLUICE_MASTER_KEY_PREVIOUS is not set" in alone.err) == (1, True)
    sluice.environment["SLUICE_MASTER_KEY"] = secrets.token_hex(32)
    sluice.environment["SLUICE_MASTER_KEY_PREVIOUS"] = old

    async def found() -> tuple[str, str]:
        findings = json.loads((await sluice("doctor", "--json")).out)["findings"]
        (finding,) = [finding for finding in findings if finding["check"] == "keys"]
        return finding["level"], finding["message"]

    assert await found() == ("warning", "1 still need SLUICE_MASTER_KEY_PREVIOUS")
    assert (await sluice("keys", "rotate-master", "--json")).json == {"resealed": 1}
    level, message = await found()
    assert (level, "unset it everywhere" in message) == ("ok", True)
    del sluice.environment["SLUICE_MASTER_KEY_PREVIOUS"]
    assert await found() == ("ok", "all open under this SLUICE_MASTER_KEY")
    assert await sluice.audited() == ["key.create", "key.reseal"]
    (listed,) = (await sluice("keys", "list", "--json")).json
    assert (listed["id"], listed["last_used_at"]) == (made["id"], None)
