"""`sluice topics create | acls`: the broker's side of the configuration."""

from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.topics.model import Created
    from sluice_platform.settings import Settings

app = group("Topics of the gateway, and who may use them.")


@app.command()
def create(json_output: Json = False) -> None:
    """Create every topic that the configuration needs and the broker lacks.

    Example: `SLUICE_KAFKA=broker:9092 SLUICE_CONFIG=sluice.yaml sluice topics create`
    """
    from sluice_cli.session import configuration, run, settings

    given = settings()
    made = run(create_topics(given, configuration(given)))
    if json_output:
        print_json(made)
        return
    for name in made.created:
        say(f"created {name}")
    say(f"{len(made.created)} created, {len(made.existing)} were there")


async def create_topics(given: "Settings", config: "Config") -> "Created":
    """Create what is missing, as the configuration says."""
    from sluice_cli.session import broker
    from sluice_core.topics.policy import wanted
    from sluice_core.topics.service import TopicService

    async with broker(given) as admin:
        return await TopicService(admin).create(
            wanted(config),
            partitions=config.kafka.partitions,
            replication=config.kafka.replication,
        )


@app.command()
def acls(
    commands: Annotated[
        bool, typer.Option("--commands", help="Print kafka-acls.sh lines to run.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Print the rights that each principal needs: workers, keepers, operators, every tenant.

    Example: `sluice topics acls --commands > acls.sh`
    """
    from sluice_cli.session import configuration, settings
    from sluice_core.topics.policy import grants

    needed = grants(configuration(settings()))
    if json_output:
        print_json(needed)
    elif commands:
        say("\n".join(grant.command() for grant in needed))
    else:
        columns = [Column(title=title) for title in ("principal", "on", "name", "may")]
        rows = [
            (g.principal, g.resource, g.name + ("*" if g.prefixed else ""), g.operations)
            for g in needed
        ]
        print_table("Rights", columns, rows)
