"""How Kafka is reached: as arguments, or as the `SLUICE_` variables say."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.helpers import create_ssl_context

from sluice_client.errors import NotConfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Bootstrap servers and the security options of `SLUICE_KAFKA_…`, by the same names."""

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Connection":
        """`SLUICE_KAFKA` and what starts with `SLUICE_KAFKA_`; NotConfigured names what is missing."""
        values = {
            name: text
            for name in cls.__dataclass_fields__
            if name != "bootstrap" and (text := variable(environ, f"SLUICE_KAFKA_{name.upper()}"))
        }
        bootstrap = variable(environ, "SLUICE_KAFKA")
        if bootstrap is None:
            raise NotConfigured("SLUICE_KAFKA is not set; write host:port of the brokers")
        return cls(bootstrap=bootstrap, **values)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of any aiokafka client."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
            "ssl_context": self._ssl_context(),
        }
        if self.security_protocol.startswith("SASL"):
            if self.sasl_username is None or self.sasl_password is None:
                raise NotConfigured("SASL needs sasl_username and sasl_password")
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password
        return arguments

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not self.security_protocol.endswith("SSL"):
            return None
        try:
            context: ssl.SSLContext = create_ssl_context(
                cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile
            )
        except (ssl.SSLError, OSError) as exc:
            raise NotConfigured(f"the certificates for Kafka cannot be loaded: {exc}") from exc
        return context


def variable(environ: Mapping[str, str], name: str) -> str | None:
    """A variable, or the file that `NAME_FILE` names; None where neither is set."""
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name) or None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as exc:
        raise NotConfigured(f"{name}_FILE: cannot read {path}: {exc}") from exc
