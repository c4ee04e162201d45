"""What the demonstration prints when its jobs have ended."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from sluice_cli.demo.tally import Tally, percentile
from sluice_cli.output import Column, print_table
from sluice_core.spending.model import UsageLine

_SAMPLES: Final = ("summary", "ticket", "extract", "tool", "embed")
_WIDTH: Final = 96


def print_outcome(tally: Tally, spent: Sequence[UsageLine], took_s: float) -> None:
    """Results by state, queue times, usage by project, a few answers."""
    states = tally.states()
    print_table(
        "Results",
        [
            Column(title="class"),
            *(Column(title=title, right=True) for title in ("sent", *states)),
            Column(title="queued p50, ms", right=True),
            Column(title="queued p99, ms", right=True),
        ],
        [
            (
                *(name, of_class.sent, *(of_class.states.get(state, 0) for state in states)),
                round(percentile(of_class.queued_ms, 0.50)),
                round(percentile(of_class.queued_ms, 0.99)),
            )
            for name, of_class in tally.classes.items()
        ],
    )
    print_table(
        "Usage and cost by project (finance.usage_daily)",
        [
            Column(title="project"),
            *(Column(title=title, right=True) for title in ("calls", "input", "output", "USD")),
        ],
        [
            (
                line.group[-1],
                line.calls,
                line.input_tokens,
                line.output_tokens,
                f"{line.cost_usd:.6f}",
            )
            for line in spent
        ],
    )
    console = Console()
    console.print("[bold]A few answers[/bold] (the mock provider repeats what it was told)")
    for custom_id, text in samples(tally.results):
        console.print(f"  [cyan]{custom_id}[/cyan]  {escape(text)}")
    done = sum(of_class.done for of_class in tally.classes.values())
    console.print(
        f"\n{done:,} jobs in {took_s:.1f} s; {tally.attempts():,} provider calls, "
        f"of which {tally.attempts() - done:,} were retries after a provider's error."
    )


def samples(results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """One answer of each kind, shortened."""
    found = []
    for kind in _SAMPLES:
        for custom_id in sorted(results):
            if custom_id.startswith(kind):
                found.append((custom_id, answer_text(results[custom_id])[:_WIDTH]))
                break
    return found


def answer_text(result: Mapping[str, Any]) -> str:
    """What a result says, in one line."""
    response = result["response"]
    if response is None:
        return f"({result['job']['state']}: {result['error']['code']})"
    body = response["body"]
    if body.get("object") == "list":
        vectors = body["data"]
        return f"{len(vectors)} vectors of {len(vectors[0]['embedding'])} numbers"
    if "choices" not in body:
        return json.dumps(body, ensure_ascii=False)
    message = body["choices"][0]["message"]
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if calls:
        return ", ".join(f"{call['name']}({call['arguments']})" for call in calls)
    return " ".join(str(message["content"]).split())


NEXT: Final = """
What to try next
  sluice up                                    keep it running; it prints how to connect
  sluice submit FILE.jsonl --class bulk --wait  your own Batch file through it
  sluice usage report --by project --by model   what it cost
  sluice doctor                                 is everything as it should be?
"""
