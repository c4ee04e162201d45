"""What a topic should be, what it is, and who may do what with it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A topic's setting that is not what the gateway needs; `found` None: the topic is missing."""

    topic: str
    setting: str
    wanted: str
    found: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """Topics that were made, and those that were there."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One right of one principal; `resource` is `topic`, `group` or `cluster`.

    `prefixed`: `name` stands for every name that starts with it.
    """

    principal: str
    resource: str
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False

    def command(self) -> str:
        """The `kafka-acls.sh` line that gives this right."""
        place = "--cluster" if self.resource == "cluster" else f"--{self.resource} '{self.name}'"
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        operations = " ".join(f"--operation {operation}" for operation in self.operations)
        return (
            'kafka-acls.sh --bootstrap-server "$SLUICE_KAFKA" --add '
            f"--allow-principal 'User:{self.principal}' {operations} {place}{pattern}"
        )
