"""Finds the account that a server which refuses root runs as, and opens its way to the files."""

import os
import pwd
import stat
from pathlib import Path

from sluice_devstack.errors import BinariesMissing, DevstackError
from sluice_devstack.processes import Account

_USUAL = ("postgres", "nobody")


def unprivileged_account(name: str | None) -> Account | None:
    """The account for a server that refuses root; None where this process is not root.

    `name` asks for one; without it the first of the usual unprivileged accounts is taken, so that
    nothing has to be created on the machine. Raises BinariesMissing if there is none.
    """
    if os.geteuid() != 0:
        if name not in {None, pwd.getpwuid(os.geteuid()).pw_name}:
            raise DevstackError(
                f"only root can run a server as {name!r}; leave the account out to run it as "
                "yourself"
            )
        return None
    for candidate in (name,) if name is not None else _USUAL:
        try:
            entry = pwd.getpwnam(candidate)
        except KeyError:
            continue
        return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise BinariesMissing(
        f"PostgreSQL refuses to run as root and there is no account {name or 'postgres or nobody'} "
        "on this machine; create one, or start the stack as another user"
    )


def open_way(path: Path, account: Account | None) -> None:
    """Lets `account` reach `path`: search permission (no more) on its parents that lack it.

    Only root comes here; a server under another account could not reach a file below a directory
    such as /root at all.
    """
    if account is None:
        return
    for parent in path.resolve().parents:
        status = parent.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            parent.chmod(stat.S_IMODE(status.st_mode) | needed)


def give(path: Path, account: Account | None) -> None:
    """Makes `account` the owner of a file or an empty directory."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
