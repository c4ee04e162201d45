"""`sluice deadletter list | replay`: records that could not be jobs, and the way back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say, warn

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from sluice_cli.dead_letters import Letter
    from sluice_core.config.model import Config
    from sluice_platform.settings import Settings

app = group("Dead letters: records that could not be jobs, with their own bytes.")

_READ_AT_ONCE = 500
_CONFIRMED_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a replay did: places sent back, and places refused with the reason."""

    replayed: tuple[str, ...]
    refused: tuple[str, ...]


@app.command("list")
def list_letters(
    code: Annotated[str | None, typer.Option(help="With this error code alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    json_output: Json = False,
) -> None:
    """List dead letters by their place (partition/offset on the dead-letter topic) and reason.

    Example: `sluice deadletter list --code invalid_record`
    """
    from sluice_cli.session import configuration, run, settings

    given = settings()
    found = run(_list(given, configuration(given), code, limit))
    if json_output:
        print_json([letter.described() for letter in found])
        return
    titles = ("place", "at", "from", "code", "redriven", "bytes", "why")
    rows = [
        (
            *(letter.place, letter.at, letter.source, letter.code, letter.redrives),
            *(len(letter.value or b""), letter.message),
        )
        for letter in found
    ]
    columns = [Column(title=title, whole=title == "place") for title in titles]
    print_table("Dead letters", columns, rows)


@app.command()
def replay(
    *,
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="PARTITION/OFFSET", help="Places, as list shows them."),
    ] = None,
    all_of: Annotated[
        bool, typer.Option("--all", help="Every dead letter (with --code: of that code).")
    ] = False,
    code: Annotated[str | None, typer.Option(help="With this error code alone.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also those sent back three times already.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Send dead letters back to their topics with their own key, bytes and headers.

    One that was sent back already is passed over by --all. A record that came back three times is
    quarantined: only --force sends it again.

    Example: `sluice deadletter replay 0/17 0/18`, or `--all --code unknown_project`
    """
    from sluice_cli.session import configuration, run, settings

    if bool(places) == all_of:
        raise typer.BadParameter("name places, or give --all")
    wanted = frozenset(places or ())
    given = settings()
    outcome = run(_replay(given, configuration(given), wanted, code, force=force))
    if json_output:
        print_json(outcome)
    else:
        for reason in outcome.refused:
            warn(reason)
        say(f"{len(outcome.replayed)} sent back, {len(outcome.refused)} refused")
    if outcome.refused:
        raise typer.Exit(1)


async def letters(given: "Settings", config: "Config") -> AsyncIterator["Letter"]:
    """Every dead letter that the topic holds now, partition by partition."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from sluice_cli.dead_letters import read_letter
    from sluice_cli.session import broker
    from sluice_core.topics.service import TopicService
    from sluice_platform.kafka import security
    from sluice_schemas.topics import DEAD_LETTER_OVERHEAD_BYTES, Topics

    topic = Topics(prefix=config.kafka.prefix).dead_letters
    consumer = AIOKafkaConsumer(
        bootstrap_servers=given.need_kafka(),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=config.limits.record_bytes + DEAD_LETTER_OVERHEAD_BYTES,
        **security(given),
    )
    async with consumer:
        async with broker(given) as admin:
            numbers = (await TopicService(admin).partitions([topic])).get(topic)
        if numbers is None:
            raise Refused(f"there is no topic {topic}: run `sluice topics create`")
        partitions = [TopicPartition(topic, number) for number in numbers]
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            while await consumer.position(partition) < ends[partition]:
                found = await consumer.getmany(
                    partition, timeout_ms=1000, max_records=_READ_AT_ONCE
                )
                for record in found.get(partition, ()):
                    yield read_letter(record)


async def _list(
    given: "Settings", config: "Config", code: str | None, limit: int
) -> "list[Letter]":
    found: list[Letter] = []
    async for letter in letters(given, config):
        if code is None or letter.code == code:
            found.append(letter)
            if len(found) >= limit:
                break
    return found


async def _replay(
    given: "Settings",
    config: "Config",
    places: frozenset[str],
    code: str | None,
    *,
    force: bool,
) -> Outcome:
    from sluice_cli.session import actor, ledger
    from sluice_core.operations.repository import OperatorRepository
    from sluice_platform.kafka import producer
    from sluice_schemas.topics import DEAD_LETTER_OVERHEAD_BYTES

    found = [
        letter
        async for letter in letters(given, config)
        if (letter.place in places or not places) and (code is None or letter.code == code)
    ]
    unknown = places - {letter.place for letter in found}
    if unknown:
        raise Refused(
            f"no dead letter at {', '.join(sorted(unknown))}"
            + (f" with code {code}" if code else "")
            + ": see `sluice deadletter list`"
        )
    sender = producer(
        given,
        linger_ms=5,
        max_request_size=config.limits.record_bytes + DEAD_LETTER_OVERHEAD_BYTES,
    )
    done, refused = [], []
    async with ledger(given) as pool, sender:
        operations = OperatorRepository(pool)
        before = await operations.replayed()
        for letter in found:
            replayed = letter.origin in before
            reason = letter.refusal(force=force, replayed=replayed)
            if reason is None:
                await _send_back(sender, letter)
                await operations.mark_replayed(*letter.origin, actor())
                done.append(letter.place)
            elif places or not replayed:
                refused.append(f"{letter.place}: {reason}")
    return Outcome(replayed=tuple(done), refused=tuple(refused))


async def _send_back(sender: "AIOKafkaProducer", letter: "Letter") -> None:
    from sluice_cli.dead_letters import replayed_headers

    sent = await sender.send(
        letter.source_topic, letter.sent_value, key=letter.key, headers=replayed_headers(letter)
    )
    await asyncio.wait_for(sent, _CONFIRMED_S)
