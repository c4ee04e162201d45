"""Providers' exports: each form is read, names of versions are the model that was booked, and differences are told."""

from datetime import date
from decimal import Decimal

import pytest

from sluice_core.spending.invoices import (
    Amounts,
    Booked,
    InvoiceError,
    differences,
    read_invoice,
)

DAY = date(2026, 11, 1)
OPENAI_USAGE = """start_time,end_time,start_time_iso,num_model_requests,input_tokens,output_tokens,input_cached_tokens,model,batch
1793491200,1793577600,2026-11-01T00:00:00+00:00,3,1000,200,400,gpt-4o-mini-2024-07-18,false
1793491200,1793577600,2026-11-01T00:00:00+00:00,1,500,100,0,gpt-4o-mini-2024-07-18,true
1793491200,1793577600,2026-11-01T00:00:00+00:00,0,,,,,
"""
OPENAI_COSTS = """start_time,end_time,amount_value,amount_currency,line_item,project_id
1793491200,1793577600,0.25,usd,"gpt-4o-mini-2024-07-18, input",p
1793491200,1793577600,0.5,usd,"gpt-4o-mini-2024-07-18, output",p
"""
ANTHROPIC_USAGE = """usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-11-01,claude-sonnet-4-5-20250929,k,Default,standard,≤ 200k,100,20,3,4000,50,0
"""
ANTHROPIC_COSTS = """usage_date_utc,model,workspace,usage_type,token_type,cost_usd
2026-11-01,Claude Sonnet 4.5,Default,message,input,1.25
"""
GOOGLE = """Billing account ID,Service description,SKU description,Usage start date,Usage amount,Cost ($)
x,Gemini API,Gemini 2.5 Flash Text Input - Predictions,2026-11-01,1000000,"1,234.50"
x,Gemini API,Gemini 2.5 Flash Text Output - Predictions,2026-11-01,1000,0.50
x,,,2026-11-01,,0.01
"""


def booked(model: str, **amounts: object) -> Booked:
    return Booked(day=DAY, model=model, amounts=Amounts(**amounts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "form", "own"),
    [
        (
            OPENAI_USAGE,
            "OpenAI usage",
            booked(
                "gpt-4o-mini",
                requests=4,
                input_tokens=1500,
                cache_read_tokens=400,
                cache_write_tokens=9,
                output_tokens=300,
                cost_usd=Decimal(7),
            ),
        ),
        (OPENAI_COSTS, "OpenAI costs", booked("gpt-4o-mini", cost_usd=Decimal("0.75"))),
        (
            ANTHROPIC_USAGE,
            "Anthropic usage",
            booked(
                "claude-sonnet-4-5",
                requests=1,
                input_tokens=4123,
                cache_read_tokens=4000,
                cache_write_tokens=23,
                output_tokens=50,
            ),
        ),
        (GOOGLE, "Google Cloud billing", booked("gemini-2.5-flash", cost_usd=Decimal(1235))),
    ],
)
def test_each_form_is_read_and_agrees_with_what_was_booked(
    text: str, form: str, own: Booked
) -> None:
    name, lines = read_invoice("\ufeff" + text)
    assert name == form
    assert {line.day for line in lines} == {DAY}
    assert differences([own], lines, tolerance=Decimal(0)) == []


def test_a_products_name_is_the_longest_model_that_it_begins_with() -> None:
    _, lines = read_invoice(GOOGLE)
    both = [
        booked("gemini-2.5-flash", cost_usd=Decimal(1235)),
        booked("gemini-2.5", cost_usd=Decimal(0)),
    ]
    assert differences(both, lines, tolerance=Decimal(0)) == []


def test_differences_are_told_one_by_one() -> None:
    _, lines = read_invoice(OPENAI_USAGE)
    own = booked(
        "gpt-4o-mini", requests=4, input_tokens=1400, cache_read_tokens=400, output_tokens=300
    )
    (found,) = differences([own], lines, tolerance=Decimal(0))
    assert (found.model, found.what, found.booked, found.invoiced, found.amount) == (
        "gpt-4o-mini",
        "input_tokens",
        1400,
        1500,
        100,
    )
    assert differences([own], lines, tolerance=Decimal("0.07")) == []
    assert differences([own], lines, tolerance=Decimal("0.06")) != []


def test_what_only_one_side_has_is_a_difference() -> None:
    _, lines = read_invoice(OPENAI_COSTS)
    other = booked("gpt-4o", cost_usd=Decimal(2))
    found = {
        (d.model, d.booked, d.invoiced) for d in differences([other], lines, tolerance=Decimal(0))
    }
    assert found == {
        ("gpt-4o", Decimal(2), None),
        ("gpt-4o-mini-2024-07-18", None, Decimal("0.75")),
    }


def test_a_day_that_the_export_does_not_cover_is_not_compared() -> None:
    _, lines = read_invoice(OPENAI_COSTS)
    own = booked("gpt-4o-mini", cost_usd=Decimal("0.75"))
    later = Booked(day=date(2026, 11, 2), model="gpt-4o-mini", amounts=Amounts(cost_usd=Decimal(9)))
    assert differences([own, later], lines, tolerance=Decimal(0)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an export that is known. Its columns: none"),
        ("a,b\n1,2\n", "not an export that is known. Its columns: a, b"),
        (OPENAI_COSTS.replace("0.25", "much"), "line 2 cannot be read as OpenAI costs"),
        (ANTHROPIC_USAGE.replace("2026-11-01", "soon"), "line 2 cannot be read as Anthropic usage"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvoiceError, match=said):
        read_invoice(text)
