"""A Kafka whose door is locked: TLS, passwords, and no right that was not granted."""

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aiokafka.protocol.admin import CreateAclsRequest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice_devstack.ground import LOOPBACK, free_port
from sluice_devstack.kafka import EmbeddedKafka
from sluice_platform.kafka import admin
from sluice_platform.settings import load_settings

_RESOURCES: Final = {"topic": 2, "group": 3, "cluster": 4}
_OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Describe": 8,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3


class SecuredKafka(EmbeddedKafka):
    """Has a second address that asks for TLS and a password; who comes by the first may do anything, tests alone do."""

    def __init__(self, data_dir: Path, *, passwords: Mapping[str, str]) -> None:
        super().__init__(data_dir)
        self.passwords = passwords
        self.secured = f"{LOOPBACK}:{free_port()}"
        self.ca = data_dir / "ca.pem"

    def environment(self, user: str, password: str | None = None) -> dict[str, str]:
        """How a process of `user` reaches it."""
        return {
            "SLUICE_KAFKA": self.secured,
            "SLUICE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "SLUICE_KAFKA_SASL_MECHANISM": "PLAIN",
            "SLUICE_KAFKA_SASL_USERNAME": user,
            "SLUICE_KAFKA_SASL_PASSWORD": password or self.passwords[user],
            "SLUICE_KAFKA_SSL_CAFILE": str(self.ca),
        }

    async def grant(self, rights: Iterable[Mapping[str, Any]]) -> None:
        """Give the rights that `sluice topics acls --json` lists."""
        client = admin(load_settings({"SLUICE_KAFKA": self.bootstrap}))
        await client.start()
        try:
            for right in rights:
                for operation in right["operations"]:
                    request = CreateAclsRequest(
                        _RESOURCES[right["resource"]],
                        right["name"],
                        _PREFIXED if right["prefixed"] else _LITERAL,
                        f"User:{right['principal']}",
                        "*",
                        _OPERATIONS[operation],
                        _ALLOW,
                    )
                    answer = await client._send_request(request)
                    (created,) = answer.creation_responses
                    assert created[0] == 0, (right, created)
        finally:
            await client.close()

    def _write_properties(self) -> Path:
        path = super()._write_properties()
        store = self.data_dir / "broker.pem"
        certify(store, self.ca)
        users = " ".join(f'user_{name}="{word}"' for name, word in self.passwords.items())
        lines = path.read_text(encoding="latin-1").splitlines()
        changed = {
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,LOCKED:SASL_SSL",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.locked.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain."
            f"PlainLoginModule required {users};",
            "listener.name.locked.ssl.keystore.type": "PEM",
            "listener.name.locked.ssl.keystore.location": str(store),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        for place, line in enumerate(lines):
            name, _, value = line.partition("=")
            if name in {"listeners", "advertised.listeners"}:
                lines[place] = f"{name}={value},LOCKED://{self.secured}"
        lines += [f"{name}={value}" for name, value in changed.items()]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="latin-1")
        return path


def certify(store: Path, ca: Path) -> None:
    """Write a self-signed certificate of the loopback address, and a store with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the broker")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    ca.write_bytes(pem)
    store.write_bytes(secret + pem)
