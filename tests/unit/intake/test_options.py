"""Options that have no effect are said to have none."""

from sluice_core.intake.options import check_options


def test_a_semantic_cache_is_not_promised() -> None:
    checked, warnings = check_options({"cache": "semantic", "colour": "red"})
    assert checked == {"cache": "semantic"}
    assert warnings == (
        "unknown option: colour",
        "options.cache: there is no semantic cache here; the job is answered anew",
    )
