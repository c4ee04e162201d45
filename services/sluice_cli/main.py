"""The `sluice` command: every group of commands, and how a mistake is told."""

import sys

from sluice_cli import (
    audit,
    budgets,
    config,
    deadletter,
    demo_command,
    doctor,
    holds,
    jobs,
    keys,
    limits,
    policy,
    prices,
    processes,
    provider_keys,
    reconcile,
    route,
    runs,
    submit_command,
    topics,
    unresolved,
    up,
    usage,
)
from sluice_cli.output import group
from sluice_platform.errors import StartupError

app = group(
    "A queued gateway between your programs and LLM providers: jobs in by Kafka, results out, every cent counted.\n\n"
    "Start with `sluice demo`: the whole system on this machine, a thousand jobs, a minute."
)
demo_command.register(app)
up.register(app)
submit_command.register(app)
processes.register(app)
doctor.register(app)
holds.register(app)
app.add_typer(topics.app, name="topics")
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")
app.add_typer(provider_keys.app, name="provider-keys")
app.add_typer(policy.app, name="policy")
app.add_typer(route.app, name="route")
app.add_typer(audit.app, name="audit")
app.add_typer(jobs.app, name="jobs")
app.add_typer(runs.app, name="runs")
app.add_typer(deadletter.app, name="deadletter")
app.add_typer(unresolved.app, name="unresolved")
app.add_typer(budgets.app, name="budgets")
app.add_typer(limits.app, name="limits")
app.add_typer(prices.app, name="prices")
reconcile.register(usage.app)
app.add_typer(usage.app, name="usage")


def main() -> None:
    """Run the command line; exits 0, 1 (it could not be done, or something is wrong), 2 (usage)."""
    try:
        app()
    except StartupError as exc:
        sys.stderr.write(f"sluice: {exc}\n")
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; Python would complain once more at exit.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
