"""Reads the environment of a process into one checked value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from sluice_platform.crash import CrashPlan
from sluice_platform.errors import StartupError

_PREFIX = "SLUICE_"
_FILE_SUFFIX = "_FILE"


class SettingsError(StartupError):
    """The environment is wrong; the message names each variable and what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """An address to listen on; port 0 takes any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _host_port(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("is not host:port")
    return HostPort(host=host, port=int(port))


def _brokers(text: str) -> str:
    for address in text.split(","):
        if _host_port(address.strip()).port == 0:
            raise ValueError("names port 0")
    return text


def _dsn(text: str) -> str:
    if urlsplit(text).scheme not in {"postgresql", "postgres"}:
        raise ValueError("is not a postgresql:// address")
    return text


def _master_key(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("is not 64 hexadecimal digits")
    return text


def _worker_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise ValueError("has characters that a name cannot have")
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("is not an http:// or https:// address")
    return text.rstrip("/")


def _existing_file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("names no file")
    return text


_Brokers = Annotated[str, BeforeValidator(_brokers)]
_Dsn = Annotated[SecretStr, BeforeValidator(_dsn)]
_Listen = Annotated[HostPort, BeforeValidator(_host_port)]
_File = Annotated[Path, BeforeValidator(_existing_file)]


class Settings(BaseModel):
    """The `SLUICE_*` variables of CONTRACT §6; a field's description says what to write.

    Which of them a process needs is its own affair: the `need_…` methods raise SettingsError for
    one that is absent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka: _Brokers | None = Field(None, description="host:port of the brokers, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_sasl_username: str | None = Field(None, description="the SASL user's name")
    kafka_sasl_password: SecretStr | None = Field(None, description="the SASL user's password")
    kafka_ssl_cafile: _File | None = Field(None, description="a PEM file of trusted authorities")
    kafka_ssl_certfile: _File | None = Field(None, description="a PEM file of our certificate")
    kafka_ssl_keyfile: _File | None = Field(None, description="a PEM file of its private key")
    database: _Dsn | None = Field(None, description="postgresql://user:password@host:port/name")
    database_direct: _Dsn | None = Field(
        None, description="postgresql://… past the pooler, for LISTEN and advisory locks"
    )
    config: _File | None = Field(None, description="the path of sluice.yaml")
    http: _Listen | None = Field(None, description="host:port to serve HTTP on")
    health: _Listen | None = Field(None, description="host:port to serve probes on")
    master_key: Annotated[SecretStr, BeforeValidator(_master_key)] | None = Field(
        None, description="64 hexadecimal digits, such as `openssl rand -hex 32` prints"
    )
    master_key_previous: Annotated[SecretStr, BeforeValidator(_master_key)] | None = Field(
        None, description="the SLUICE_MASTER_KEY before this one, while keys still need it"
    )
    key: SecretStr | None = Field(None, description="id:secret, as `sluice keys create` prints")
    api: Annotated[str, BeforeValidator(_url)] | None = Field(
        None, description="http://host:port of an HTTP edge"
    )
    worker_name: Annotated[str, BeforeValidator(_worker_name)] | None = Field(
        None, description="a stable name: letters, digits, dot, dash, underscore, at most 100"
    )
    crash_at: str | None = Field(None, description="a crash point, `name` or `name:N`")
    crash_mark: Path | None = Field(None, description="a file made by the process that crashes")

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and (
            self.kafka_sasl_username is None or self.kafka_sasl_password is None
        ):
            raise ValueError(
                "SLUICE_KAFKA_SECURITY_PROTOCOL asks for SASL: set SLUICE_KAFKA_SASL_USERNAME and "
                "SLUICE_KAFKA_SASL_PASSWORD too"
            )
        if self.kafka_ssl_keyfile is not None and self.kafka_ssl_certfile is None:
            raise ValueError("SLUICE_KAFKA_SSL_KEYFILE needs SLUICE_KAFKA_SSL_CERTFILE too")
        if self.master_key_previous is not None and self.master_key is None:
            raise ValueError("SLUICE_MASTER_KEY_PREVIOUS needs SLUICE_MASTER_KEY too")
        if self.master_key is not None and self.master_key_previous == self.master_key:
            raise ValueError(
                "SLUICE_MASTER_KEY_PREVIOUS is the same as SLUICE_MASTER_KEY: unset it"
            )
        if self.crash_at is not None:
            try:
                CrashPlan.parse(self.crash_at, self.crash_mark)
            except ValueError as exc:
                raise ValueError(f"SLUICE_CRASH_AT: {exc}") from exc
        return self

    def need_kafka(self) -> str:
        """The bootstrap servers; raises SettingsError if SLUICE_KAFKA is not set."""
        return self.kafka or _absent("kafka")

    def need_database(self) -> str:
        """The DSN; raises SettingsError if SLUICE_DATABASE is not set."""
        return _revealed(self.database) or _absent("database")

    def need_direct_database(self) -> str:
        """The DSN for session state (LISTEN, advisory locks): past the pooler if there is one."""
        return _revealed(self.database_direct) or self.need_database()

    def need_config(self) -> Path:
        """The path of sluice.yaml; raises SettingsError if SLUICE_CONFIG is not set."""
        return self.config or _absent("config")

    def need_master_key(self) -> bytes:
        """The 32 bytes; raises SettingsError if SLUICE_MASTER_KEY is not set."""
        return bytes.fromhex(_revealed(self.master_key) or _absent("master_key"))

    def need_previous_master_key(self) -> bytes:
        """The 32 bytes; raises SettingsError if SLUICE_MASTER_KEY_PREVIOUS is not set."""
        return bytes.fromhex(_revealed(self.master_key_previous) or _absent("master_key_previous"))

    def master_keys(self) -> tuple[bytes, ...]:
        """The master keys that are set, the current one first; signing material may lie under either."""
        found = (_revealed(self.master_key), _revealed(self.master_key_previous))
        return tuple(bytes.fromhex(text) for text in found if text is not None)

    @property
    def behind_pooler(self) -> bool:
        """Whether SLUICE_DATABASE goes through a pooler: only then there is a direct way too."""
        return self.database_direct is not None

    def crash_plan(self) -> CrashPlan | None:
        """For `sluice_platform.crash.arm`; None but in tests."""
        if self.crash_at is None:
            return None
        return CrashPlan.parse(self.crash_at, self.crash_mark)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` holds; raises one SettingsError that lists all that is wrong.

    Each variable may be given as `NAME_FILE`, the path of a file with its value (a trailing
    newline is dropped). An empty variable counts as absent.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for field in Settings.model_fields:
        try:
            value = _read(environ, _variable(field))
        except ValueError as exc:
            problems.append(str(exc))
        else:
            if value:
                values[field] = value
    try:
        settings = Settings.model_validate(values)
    except ValidationError as exc:
        problems += _explained(exc)
        settings = None
    if problems or settings is None:
        raise SettingsError("\n".join(problems))
    return settings


def _variable(field: str) -> str:
    return _PREFIX + field.upper()


def _read(environ: Mapping[str, str], name: str) -> str:
    direct = environ.get(name, "")
    path = environ.get(name + _FILE_SUFFIX, "")
    if not path:
        return direct
    if direct:
        raise ValueError(f"{name} and {name}{_FILE_SUFFIX} are both set: keep one of them")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise ValueError(f"{name}{_FILE_SUFFIX}: cannot read {path}: {reason}") from exc


def _explained(error: ValidationError) -> list[str]:
    """One line per problem; the values themselves are never in it: they may be secrets."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            field = str(problem["loc"][0])
            hint = Settings.model_fields[field].description
            lines.append(f"{_variable(field)} {_as_predicate(message)}; write {hint}")
        else:
            lines.append(message)
    return lines


def _as_predicate(message: str) -> str:
    return message if message.startswith(("is ", "has ", "names ")) else "has a value not known"


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _absent(field: str) -> Any:
    hint = Settings.model_fields[field].description
    raise SettingsError(f"{_variable(field)} is not set; write {hint}")
