import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_devstack.accounts import open_way, unprivileged_account
from sluice_devstack.errors import BinariesMissing, DataDirectoryInUse, DevstackError, PortBusy
from sluice_devstack.ground import DirectoryLock, free_port, require_port
from sluice_devstack.processes import Account


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_a_taken_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortBusy, match=f"Kafka cannot listen on 127.0.0.1:{port}"):
            require_port(port, "Kafka")


def test_a_directory_is_held_by_one(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    with pytest.raises(DataDirectoryInUse, match=f"live stack .process {os.getpid()}."):
        DirectoryLock(tmp_path / "data")
    lock.release()
    DirectoryLock(tmp_path / "data").release()


def test_a_dead_owners_lock_is_waited_for(tmp_path: Path) -> None:
    """The owner is gone, its server still holds the lock for a moment."""
    program = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from sluice_devstack.ground import DirectoryLock\n"
        "lock = DirectoryLock(Path(sys.argv[1]))\n"
        "subprocess.Popen(['sleep', '0.5'], pass_fds=[lock.fileno()])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], check=True)
    DirectoryLock(tmp_path).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_root_gets_an_account_that_is_there() -> None:
    account = unprivileged_account(None)
    assert account is not None
    assert account.uid != 0
    with pytest.raises(BinariesMissing, match="no account no-such-account"):
        unprivileged_account("no-such-account")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may run a server as anybody")
def test_others_run_servers_as_themselves() -> None:
    assert unprivileged_account(None) is None
    with pytest.raises(DevstackError, match="only root"):
        unprivileged_account("no-such-account")


def test_the_way_is_opened_no_further_than_needed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    target = closed / "cluster"
    target.mkdir(mode=0o700)
    open_way(target, None)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    open_way(target, Account(name="stranger", uid=54_321, gid=54_321))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
