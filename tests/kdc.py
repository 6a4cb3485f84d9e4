# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A Kerberos realm of the tests' own: MIT's KDC on 127.0.0.1, with everything
that it keeps in one folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

NAME = "SOCKS.TEST"
PASSWORD = "correct horse"
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")

_KRB5_CONF = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    qualify_shortname = ""
    udp_preference_limit = 1
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
"""

_KDC_CONF = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        max_renewable_life = 0
    }}
"""


def program(name: str) -> str:
    """
    Where a program is.  Those of servers are not on everybody's path.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


class KDC:
    """
    A realm that is being served.

    @ivar environment: What programs need to know of it.
    """

    def __init__(self, folder: Path) -> None:
        for name in PROGRAMS:
            program(name)
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        places = {"realm": NAME, "folder": folder, "port": self.port}
        (folder / "krb5.conf").write_text(_KRB5_CONF.format(**places))
        (folder / "kdc.conf").write_text(_KDC_CONF.format(**places))
        self.environment = {
            "KRB5_CONFIG": f"{folder}/krb5.conf",
            "KRB5_KDC_PROFILE": f"{folder}/kdc.conf",
            "KRB5RCACHEDIR": f"{folder}",
            "KRB5_KTNAME": f"FILE:{folder}/nothing.keytab",
            "KRB5CCNAME": f"FILE:{folder}/nobody.ccache",
        }
        self.run("kdb5_util", "create", "-s", "-r", NAME, "-P", "master")
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [program("krb5kdc"), "-n", "-P", f"{folder}/pid"],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.05)  # another process: there is nothing to wait for

    def run(self, name: str, *arguments: str, entered: str = "") -> None:
        """
        Run a program, to its success.
        """
        done = subprocess.run(
            [program(name), *arguments],
            env=os.environ | self.environment,
            input=entered,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def admin(self, query: str) -> None:
        """
        Change the realm.
        """
        self.run("kadmin.local", "-r", NAME, "-q", query)

    def newKeytab(self, *principals: str) -> Path:
        """
        Make principals of services.

        @return: A file with their keys.
        """
        path = self.folder / (principals[0].replace("/", "-") + ".keytab")
        for principal in principals:
            self.admin(f"addprinc -randkey {principal}")
            self.admin(f"ktadd -k {path} {principal}")
        return path

    def newUser(self, user: str) -> Path:
        """
        Make a user, and log in.

        @return: A file with tickets.
        """
        path = self.folder / f"{user}.ccache"
        self.admin(f'addprinc -pw "{PASSWORD}" {user}')
        self.run("kinit", "-c", str(path), user, entered=PASSWORD + "\n")
        return path

    def stop(self) -> None:
        """
        End it.
        """
        self.process.terminate()
        self.process.wait(10)


class Realm(KDC):
    """
    A realm with a proxy, another service, and a user.

    @ivar keytab: A file with the services' keys.
    @ivar tickets: A file with the user's tickets.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keytab = self.newKeytab("rcmd/localhost", "host/localhost")
        self.tickets = self.newUser("alice")


AnyKDC = TypeVar("AnyKDC", bound=KDC)


def served(kdc: AnyKDC) -> Iterator[AnyKDC]:
    """
    For fixtures: this process and those that it starts know of it.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kdc.environment.items():
            patch.setenv(name, value)
        yield kdc
    kdc.stop()
