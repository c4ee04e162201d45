"""Dead letters, listed and sent back."""

from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from tests.integration.cli.shell import Shell, records

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("cli")]


async def test_dead_letters_go_back_with_their_own_bytes(sluice: Shell) -> None:
    await sluice("topics", "create")
    target, dead = f"{sluice.prefix}jobs.bulk.v1", f"{sluice.prefix}deadletter.v1"
    ours = [
        ("sluice-error-code", b"invalid_record"),
        ("sluice-error-message", b"no"),
        ("sluice-source-topic", target.encode()),
        ("sluice-source-partition", b"0"),
    ]
    async with AIOKafkaProducer(bootstrap_servers=sluice.bootstrap) as producer:
        for offset, count in ((7, None), (8, b"3")):
            own = [("x", b"\xff")] + ([("sluice-redrive-count", count)] if count else [])
            last = ("sluice-source-offset", str(offset).encode())
            await producer.send_and_wait(
                dead, b"\x00raw", key=b"k", partition=0, headers=[*own, *ours, last]
            )
    await sluice.pool.execute(
        'insert into sluice.dead_letters (record, topic, partition, "offset", code, message)'
        " values ($1, $2, 0, 7, 'invalid_record', 'no')",
        uuid4(),
        target,
    )
    listed = (await sluice("deadletter", "list", "--json")).json
    assert [(letter["place"], letter["quarantined"]) for letter in listed] == [
        ("0/0", False),
        ("0/1", True),
    ]
    ran = await sluice("deadletter", "replay", "--all")
    assert (ran.code, "quarantined" in ran.err) == (1, True)
    assert (await sluice("deadletter", "replay", "0/0")).code == 1
    assert (await sluice("deadletter", "replay", "--force", "0/1")).code == 0
    sent = await records(sluice.bootstrap, target, 2)
    assert {(record.key, record.value) for record in sent} == {(b"k", b"\x00raw")}
    assert sorted(record.headers for record in sent) == [
        (("x", b"\xff"), ("sluice-redrive-count", b"1")),
        (("x", b"\xff"), ("sluice-redrive-count", b"4")),
    ]
    assert (await sluice("deadletter", "replay", "9/9")).code == 1
