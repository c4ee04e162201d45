"""Options that have no effect are said to have none."""

from sluice_core.intake.options import check_options


def test_what_is_not_known_is_said() -> None:
    checked, warnings = check_options({"cache": "semantic", "colour": "red"})
    assert checked == {"cache": "semantic"}
    assert warnings == ("unknown option: colour",)
