"""The environment is read once, whole, and refused with a remedy."""

from pathlib import Path

import pytest

from antiphon.core import failpoints
from antiphon.core.settings import SETTINGS, Settings, SettingsError

KEY = "k" * 32


def test_with_nothing_set_the_database_is_embedded_and_the_defaults_hold() -> None:
    settings = Settings.from_env({})
    assert settings.is_embedded
    assert not settings.is_production
    assert settings.data_dir == Path("~/.local/share/antiphon").expanduser()
    assert (settings.port, settings.lease_seconds, settings.pooler) == (8400, 15.0, False)


def test_each_setting_is_a_field_with_a_meaning_and_has_one_variable() -> None:
    assert {setting.name for setting in SETTINGS} == set(Settings.__struct_fields__)
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)
    assert all(setting.meaning and setting.default for setting in SETTINGS)


def test_the_documented_default_is_the_real_one_where_it_is_a_value() -> None:
    defaults = Settings()
    for setting in SETTINGS:
        value = getattr(defaults, setting.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert setting.parse(setting.default) == value, setting.variable


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("ANTIPHON_DATABASE_URL", "postgresql://o:p@h/d", "database_url", "postgresql://o:p@h/d"),
        ("ANTIPHON_POOLER", "Yes", "pooler", True),
        ("ANTIPHON_POOLER", "off", "pooler", False),
        ("ANTIPHON_PORT", "0", "port", 0),
        ("ANTIPHON_PUBLIC_URL", "https://m.example.com/", "public_url", "https://m.example.com"),
        ("ANTIPHON_TRUSTED_PROXIES", "10.0.0.1, 10.0.0.2", "trusted_proxies", ("10.0.0.1", "10.0.0.2")),
        ("ANTIPHON_SECRET_KEY", KEY, "secret_key", KEY),
        ("ANTIPHON_LEASE_SECONDS", "1.5", "lease_seconds", 1.5),
        ("ANTIPHON_LOG_FORMAT", "JSON", "log_format", "json"),
        ("ANTIPHON_PORT", "  ", "port", 8400),
    ],
)
def test_a_good_value_is_taken(variable: str, value: str, field: str, expected: object) -> None:
    assert getattr(Settings.from_env({variable: value}), field) == expected


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("ANTIPHON_DATABASE_URL", "mysql://h/d", "postgresql://"),
        ("ANTIPHON_POOLER", "maybe", "yes or no"),
        ("ANTIPHON_PORT", "70000", "from 0 to 65535"),
        ("ANTIPHON_PORT", "٣", "whole number"),
        ("ANTIPHON_LEASE_SECONDS", "nan", "from 1 to 300"),
        ("ANTIPHON_PUBLIC_URL", "m.example.com", "https://"),
        ("ANTIPHON_SECRET_KEY", "short", "openssl rand"),
        ("ANTIPHON_SECRET_KEY", KEY + ",short", "each key"),
        ("ANTIPHON_ENV", "prod", "development, production"),
        ("ANTIPHON_FAILPOINTS", "nonsense=kill", "claim_committed"),
        ("ANTIPHON_PORTS", "1", "not a setting"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_the_remedy(variable: str, value: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({variable: value})
    assert variable in str(refused.value)
    assert remedy in str(refused.value)


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"ANTIPHON_PORT": "x", "ANTIPHON_POOLER": "x", "ANTIPHON_NEW": "x"})
    assert len(str(refused.value).splitlines()) == 3


def test_a_secret_is_never_repeated_in_the_refusal() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"ANTIPHON_APP_DATABASE_URL": "user:hunter2@host"})
    assert "hunter2" not in str(refused.value)


def test_variables_of_tests_and_benchmarks_are_not_ours_to_judge() -> None:
    Settings.from_env({"ANTIPHON_TEST_ALL": "1", "ANTIPHON_BENCH_ROWS": "9", "PATH": "/bin"})


def test_production_refuses_to_start_with_failpoints() -> None:
    environ = {"ANTIPHON_FAILPOINTS": "rendered=raise"}
    try:
        assert Settings.from_env(environ).failpoints == "rendered=raise"
        with pytest.raises(SettingsError, match="production does not start"):
            Settings.from_env(environ | {"ANTIPHON_ENV": "production"})
    finally:
        failpoints.arm("")
