"""`sluice provider-keys set | list | remove`: keys of provider accounts that the ledger keeps encrypted."""

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.keys.provider import ProviderKeyRecord
    from sluice_platform.settings import Settings

app = group("Keys of provider accounts, kept in the ledger under the master key.")

Account = Annotated[
    str, typer.Argument(help="The account, as `providers` of the configuration names it.")
]
Name = Annotated[str, typer.Option(help="Which of its keys.")]


@app.command("set")
def set_key(account: Account, *, name: Name = "main", json_output: Json = False) -> None:
    """Keep a key, read from standard input or asked for; workers call with it within a second or so.

    The account says `api_key_store: true`; its keys serve in turn. A key of the same name is replaced.

    Example: `sluice provider-keys set openai --name second < key.txt`
    """
    from sluice_cli.session import configuration, run, settings

    given = settings()
    if given.config is not None and account not in (known := configuration(given).providers):
        from sluice_core.config.suggest import suggestion

        raise Refused(f'no provider "{account}" is configured{suggestion(account, known)}')
    typed = getpass.getpass(f"key of {account}: ") if sys.stdin.isatty() else sys.stdin.read()
    fingerprint = run(_set(given, account, name, typed.strip()))
    if json_output:
        print_json({"account": account, "name": name, "fingerprint": fingerprint})
    else:
        say(f"the key {name} of {account} is kept (SHA-256 {fingerprint}…)")


@app.command("list")
def list_keys(json_output: Json = False) -> None:
    """List what is kept: fingerprints and dates, never a key.

    Example: `sluice provider-keys list`
    """
    from sluice_cli.session import run, settings

    found = run(_list(settings()))
    if json_output:
        print_json(found)
        return
    columns = [Column(title=title) for title in ("account", "name", "SHA-256", "since")]
    rows = [(k.account, k.name, k.fingerprint, k.created_at) for k in found]
    print_table("Keys of provider accounts", columns, rows)


@app.command()
def remove(account: Account, *, name: Name = "main", json_output: Json = False) -> None:
    """Keep a key no longer; calls under way end with it.

    Example: `sluice provider-keys remove openai --name second`
    """
    from sluice_cli.session import run, settings

    run(_remove(settings(), account, name))
    if json_output:
        print_json({"account": account, "name": name, "removed": True})
    else:
        say(f"the key {name} of {account} is kept no longer")


async def _set(given: "Settings", account: str, name: str, secret: str) -> str:
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.provider import ProviderKeys

    master_key = given.need_master_key()
    async with ledger(given) as pool:
        return await ProviderKeys(pool).put(
            account, name, secret, master_key=master_key, actor=actor()
        )


async def _list(given: "Settings") -> "list[ProviderKeyRecord]":
    from sluice_cli.session import ledger
    from sluice_core.keys.provider import ProviderKeys

    async with ledger(given) as pool:
        return await ProviderKeys(pool).records()


async def _remove(given: "Settings", account: str, name: str) -> None:
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.provider import ProviderKeys

    async with ledger(given) as pool:
        await ProviderKeys(pool).remove(account, name, actor=actor())
