from pathlib import Path

import pytest

from sluice_platform.settings import HostPort, SettingsError, load_settings


def test_every_listed_variable_is_read() -> None:
    settings = load_settings(
        {
            "SLUICE_KAFKA": "a:9092,b:9092",
            "SLUICE_DATABASE": "postgresql://u:p@h/d",
            "SLUICE_HTTP": "0.0.0.0:8080",
            "SLUICE_HEALTH": "[::1]:0",
            "SLUICE_MASTER_KEY": "ab" * 32,
            "SLUICE_API": "http://edge:8080/",
            "SLUICE_WORKER_NAME": "worker-1",
            "PATH": "/bin",
        }
    )
    assert settings.need_kafka() == "a:9092,b:9092"
    assert settings.need_database() == settings.need_direct_database() == "postgresql://u:p@h/d"
    assert settings.http == HostPort(host="0.0.0.0", port=8080)
    assert str(settings.health) == "[::1]:0"
    assert settings.need_master_key() == b"\xab" * 32
    assert settings.api == "http://edge:8080"
    assert not settings.behind_pooler


def test_a_direct_address_means_a_pooler() -> None:
    settings = load_settings(
        {
            "SLUICE_DATABASE": "postgresql://pooler/d",
            "SLUICE_DATABASE_DIRECT": "postgresql://server/d",
        }
    )
    assert settings.behind_pooler
    assert settings.need_direct_database() == "postgresql://server/d"


def test_a_file_holds_the_value(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:p@h/d\n")
    assert load_settings({"SLUICE_DATABASE_FILE": str(secret)}).need_database().endswith("@h/d")


def test_a_file_and_a_value_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    with pytest.raises(SettingsError, match="SLUICE_KEY and SLUICE_KEY_FILE are both set"):
        load_settings({"SLUICE_KEY": "k", "SLUICE_KEY_FILE": str(tmp_path / "key")})


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SLUICE_KEY_FILE: cannot read .*: No such file"):
        load_settings({"SLUICE_KEY_FILE": str(tmp_path / "none")})


def test_an_empty_variable_is_absent() -> None:
    settings = load_settings({"SLUICE_HTTP": "", "SLUICE_KAFKA_SECURITY_PROTOCOL": ""})
    assert settings.http is None
    assert settings.kafka_security_protocol == "PLAINTEXT"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SLUICE_KAFKA", "broker", "host:port of the brokers"),
        ("SLUICE_KAFKA", "broker:0", "names port 0"),
        ("SLUICE_DATABASE", "mysql://u:p@h/d", "postgresql://user"),
        ("SLUICE_HTTP", "8080", "is not host:port"),
        ("SLUICE_HTTP", "localhost:70000", "is not host:port"),
        ("SLUICE_MASTER_KEY", "abc", "64 hexadecimal digits"),
        ("SLUICE_API", "edge:8080", "http://host:port"),
        ("SLUICE_CONFIG", "/no/such/file", "names no file"),
        ("SLUICE_WORKER_NAME", "a b", "stable name"),
        ("SLUICE_KAFKA_SECURITY_PROTOCOL", "TLS", "SASL_PLAINTEXT or SASL_SSL"),
        ("SLUICE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "SLUICE_KAFKA_SASL_USERNAME"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_to_write(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert str(caught.value).startswith(name)
    assert expected in str(caught.value)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"SLUICE_HTTP": "x", "SLUICE_HEALTH": "y"})
    assert len(str(caught.value).splitlines()) == 2


def test_no_secret_is_ever_shown() -> None:
    secret = "hunter2" * 9 + "x"
    settings = load_settings(
        {"SLUICE_KEY": secret, "SLUICE_DATABASE": f"postgresql://u:{secret}@h/d"}
    )
    assert secret not in repr(settings)
    assert secret not in str(settings)
    with pytest.raises(SettingsError) as caught:
        load_settings({"SLUICE_MASTER_KEY": secret, "SLUICE_DATABASE": f"mysql://u:{secret}@h/d"})
    assert secret not in str(caught.value)
    # The error behind it may hold the input: a traceback must not print it.
    assert caught.value.__cause__ is None


def test_an_absent_variable_is_asked_for_where_it_is_needed() -> None:
    with pytest.raises(SettingsError, match="SLUICE_DATABASE is not set; write postgresql://"):
        load_settings({}).need_database()


def test_the_master_key_before_this_one() -> None:
    new, old = "ab" * 32, "cd" * 32
    settings = load_settings({"SLUICE_MASTER_KEY": new, "SLUICE_MASTER_KEY_PREVIOUS": old})
    assert settings.master_keys() == (bytes.fromhex(new), bytes.fromhex(old))
    assert settings.need_previous_master_key() == bytes.fromhex(old)
    assert load_settings({"SLUICE_MASTER_KEY": new}).master_keys() == (bytes.fromhex(new),)
    assert load_settings({}).master_keys() == ()
    for wrong, message in (
        ({"SLUICE_MASTER_KEY_PREVIOUS": old}, "needs SLUICE_MASTER_KEY too"),
        ({"SLUICE_MASTER_KEY": new, "SLUICE_MASTER_KEY_PREVIOUS": new}, "unset it"),
        ({"SLUICE_MASTER_KEY": new, "SLUICE_MASTER_KEY_PREVIOUS": "x"}, "64 hexadecimal digits"),
    ):
        with pytest.raises(SettingsError, match=message):
            load_settings(wrong)
    with pytest.raises(SettingsError, match="SLUICE_MASTER_KEY_PREVIOUS is not set"):
        load_settings({}).need_previous_master_key()
