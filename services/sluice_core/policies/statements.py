"""Pure: what one scope says of one aspect. Deny wins."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from sluice_core.config.patterns import matches
from sluice_core.config.scopes import Choice, ClassChoice, OperationChoice

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Says(Protocol):
    """A compiled statement on an aspect."""

    def of(self, value: str) -> tuple[bool, str] | None:
        """Whether it allows the value, and in which words; None: it says nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Allowed and denied patterns. A list of what is allowed speaks of everything, one of what is denied of its own alone."""

    aspect: str
    allow: tuple[str, ...] | None
    deny: tuple[str, ...]

    def of(self, value: str) -> tuple[bool, str] | None:
        """Whether it allows the value, and in which words; None: it says nothing of it."""
        for pattern in self.deny:
            if matches(pattern, value):
                return False, f'policy.{self.aspect}.deny "{pattern}"'
        if self.allow is None:
            return None
        for pattern in self.allow:
            if matches(pattern, value):
                return True, f'policy.{self.aspect}.allow "{pattern}"'
        return False, f"policy.{self.aspect}.allow does not name it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Allowed and denied networks; a text that is no address is in none."""

    allow: tuple[Network, ...] | None
    deny: tuple[Network, ...]

    def of(self, value: str) -> tuple[bool, str] | None:
        """Whether it allows the address, and in which words; None: it says nothing of it."""
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False, "the address cannot be read"
        mapped = getattr(address, "ipv4_mapped", None)
        address = address if mapped is None else mapped
        for network in self.deny:
            if address in network:
                return False, f'policy.ips.deny "{network}"'
        if self.allow is None:
            return None
        for network in self.allow:
            if address in network:
                return True, f'policy.ips.allow "{network}"'
        return False, "policy.ips.allow does not name it"


def compile_names(aspect: str, choice: Choice | ClassChoice | OperationChoice) -> Names | None:
    """The statement of a section; None where it says nothing."""
    if choice.allow is None and not choice.deny:
        return None
    return Names(aspect=aspect, allow=choice.allow, deny=choice.deny)


def compile_networks(choice: Choice) -> Networks | None:
    """The same of addresses. ValueError for what is no network, which `sluice config check` names."""
    if choice.allow is None and not choice.deny:
        return None
    allow = None if choice.allow is None else _networks(choice.allow)
    return Networks(allow=allow, deny=_networks(choice.deny))


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
