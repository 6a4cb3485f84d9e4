# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The configuration file, and what it comes to.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.configuring import RULE, configured
from tests.conversation import (
    GREET,
    LOGIN,
    assertServes,
    connectTo,
    failure,
    readAll,
    readExactly,
)
from twisted_socks5.limits import Admission
from twisted_socks5.policy.routesfile import Proxied
from twisted_socks5.service.configfile import (
    DEFAULT_ROUTE,
    LISTENER_FLAGS,
    LISTENER_LISTS,
    LISTENER_TEXTS,
)
from twisted_socks5.service.configuration import Configuration
from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.service.paths import absolute
from twisted_socks5.service.settings import KEYS
from twisted_socks5.settings import Limits

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]


def endpoints(configuration: Configuration) -> list[str]:
    return [listener.endpoint.text for listener in configuration.listeners]


def test_nothingIsSaid(file: Callable[[str], str]) -> None:
    assert configured("--config", file("")) == configured()
    assert endpoints(configured()) == ["tcp:1080:interface=127.0.0.1"]


ALL = """
port = [1081, "unix:socket"]
interface = "::1"
auth = ["file:users", "hashed:more"]
authenticator = "none"
command = ["ping"]
policy = "guard:local=elsewhere"
default-route = "socks5:tcp\\\\:127.0.0.1\\\\:1"
access-log = "json"
relay = "portable"
open = true
[timeout]
handshake = 2.5
half-closed = 7
[limit]
sessions = 9
[udp]
replies = "any"
ports = "5000-6000"
public-address = "192.0.2.1"
[bind]
ports = 5000
"""


def test_everything(file: Callable[[str], str], tmp_path: Path) -> None:
    configuration = configured("--config", file(ALL))
    access = configuration.access
    assert endpoints(configuration) == ["tcp6:1081:interface=\\:\\:1", "unix:socket"]
    assert [one.text for one in access.auth] == ["file:users", "hashed:more"]
    assert [one.resolved for one in access.auth] == [
        f"file:{tmp_path}/users",
        f"hashed:{tmp_path}/more",
    ]
    assert [one.text for one in access.authenticator] == ["none"]
    assert access.policy.text == "guard:local=elsewhere"
    assert access.isOpen
    assert configuration.route is not None
    assert configuration.route.text == "socks5:tcp\\:127.0.0.1\\:1"
    assert [one.text for one in configuration.command] == ["ping"]
    assert (configuration.accessLog, configuration.relay) == ("json", "portable")
    settings = configuration.settings
    assert (settings.timeout.handshake, settings.timeout.halfClosed) == (2.5, 7)
    assert (settings.limit.sessions, settings.udp.replies) == (9, "any")
    assert str(settings.udp.ports) == "5000-6000"
    assert str(settings.udp.publicAddress) == "192.0.2.1"
    assert str(settings.bind.ports) == "5000-5000"


def test_commandLineWins(file: Callable[[str], str]) -> None:
    """
    Also where it says what would be so anyway.
    """
    path = file(ALL + "[[listener]]\nendpoint=1\n")
    configuration = configured(
        *("--config", path, "--port", "7", "--interface", "127.0.0.1"),
        *("--policy", "guard", "--access-log", "text", "--auth", "memory:a:b"),
        *("--set", "timeout.handshake=30"),
    )
    assert endpoints(configuration) == ["tcp:7:interface=127.0.0.1"]
    assert [one.text for one in configuration.access.auth] == ["memory:a:b"]
    assert [one.text for one in configuration.access.authenticator] == ["none"]
    assert configuration.access.policy.text == "guard"
    assert configuration.accessLog == "text"
    assert configuration.relay == "portable"
    assert configuration.settings.timeout.handshake == 30
    assert configuration.settings.timeout.halfClosed == 7


def test_eachOptionHasItsKey(file: Callable[[str], str], tmp_path: Path) -> None:
    """
    Whatever can be said on the command line can be said in the file.
    """
    ofCommandLine = {"config", "set", "check"}
    (tmp_path / "rules.toml").write_text(RULE)
    values = {"relay": "auto", "access-log": "off", "rules": "rules.toml"}
    for name in SOCKS5Options().longOpt:
        name = name.rstrip("=").replace("_", "-")
        if name in ofCommandLine | {"version", "sample-config"} or "help" in name:
            continue
        key = "default-route" if name == "route" else name
        isFlag = name in SOCKS5Options.kinds().flags
        value = "true" if isFlag else f'"{values.get(name, "1")}"'
        assert configured("--config", file(f"{key} = {value}\n"))


def test_listeners(file: Callable[[str], str]) -> None:
    path = file(
        f"""
        auth = "memory:a:b"
        authenticator = "none"
        open = true
        {RULE}
        [[listener]]
        endpoint = 1
        interface = "192.0.2.1"
        [[listener]]
        endpoint = "unix:/run/a"
        authenticator = "certificate"
        policy = "guard:local=elsewhere"
        open = false
        limit = {{ sessions-per-user = 3, bandwidth = "1M" }}
        """
    )
    configuration = configured("--config", path)
    plain, own = configuration.listeners
    assert plain.endpoint.text == "tcp:1:interface=192.0.2.1"
    assert plain.access == configuration.access
    assert own.access.auth == ()
    assert [one.text for one in own.access.authenticator] == ["certificate"]
    assert own.access.policy.text == "guard:local=elsewhere"
    assert own.access.rules is configuration.access.rules is not None
    assert (plain.access.isOpen, own.access.isOpen) == (True, False)
    assert plain.limits is None
    assert own.limits == Limits(
        sessionsPerUser=3, bandwidth=1_000_000, bindsPerClient=0
    )


def test_textsFromElsewhere(
    file: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_AUTH", "memory:a:b")
    (tmp_path / "secret").write_text("memory:c:d\n")
    path = file('auth = [{ env = "TEST_AUTH" }, { file = "secret" }]')
    auth = configured("--config", path).access.auth
    assert [one.text for one in auth] == ["memory:a:b", "memory:c:d"]
    assert "memory" not in repr(auth)


def test_refusalsDoNotShowEndpointsFromElsewhere(
    file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Who is over a limit of a listener reads, and logs tell, which listener that is.
    """
    monkeypatch.setenv("TEST_ENDPOINT", "tcp:7:interface=127.0.0.1")
    path = file(
        """
        [[listener]]
        endpoint = { env = "TEST_ENDPOINT" }
        [listener.limit]
        sessions = 1
        """
    )
    (listener,) = configured("--config", path).listeners
    admission = listener.admissionOf(Admission(MemoryReactorClock()))
    (claim,) = admission.claimsOfAll()
    assert claim.reason.startswith("over limit.sessions of listener that of ")
    assert "tcp" not in claim.reason


def test_textsOfTablesFromElsewhere(
    file: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Settings and routes have them too.
    """
    monkeypatch.setenv("TEST_ADDRESS", "192.0.2.1")
    for name, text in (("log", "file:a"), ("proxy", "tcp:h:1"), ("user", "me")):
        (tmp_path / name).write_text(text + "\n")
    path = file(
        """
        udp = { public-address = { env = "TEST_ADDRESS" } }
        log = { access-to = { file = "log" } }
        [[rule]]
        action = "allow"
        [route.up]
        proxy = { file = "proxy" }
        user = { file = "user" }
        password-file = "password"
        """
    )
    configuration = configured("--config", path)
    assert str(configuration.settings.udp.publicAddress) == "192.0.2.1"
    assert str(configuration.settings.log.accessTo) == f"file:{tmp_path}/a"
    rules = configuration.access.rules
    assert rules is not None
    assert rules.routes["up"].way == Proxied("tcp:h:1", "me", f"{tmp_path}/password")
    assert "tcp" not in str(rules.routes["up"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:users", "file:/e/users"),
        ("file:/users", "file:/users"),
        ("hashed:users:remember=3", "hashed:/e/users:remember=3"),
        ("hashed:users:passwordFile=x", "hashed:/e/users:passwordFile=/e/x"),
        ("unix:a:mode=600", "unix:/e/a:mode=600"),
        ("unix:address=a", "unix:address=/e/a"),
        ("haproxy:unix:a", "haproxy:unix:/e/a"),
        ("tcp:80", "tcp:80"),
        ("memory:file:a", "memory:file:a"),
        (
            "mtls:1:privateKey=k:certKey=/c:clientCA=a",
            "mtls:1:privateKey=/e/k:certKey=/c:clientCA=/e/a",
        ),
        (
            "socks5:socks5\\:tcp\\\\\\:h\\:passwordFile=p:passwordFile=q",
            "socks5:socks5\\:tcp\\\\\\:h\\:passwordFile=/e/p:passwordFile=/e/q",
        ),
    ],
)
def test_paths(text: str, expected: str) -> None:
    assert absolute(text, "/e") == expected
    assert absolute(text, "") == text


def test_pathsInSettings(file: Callable[[str], str], tmp_path: Path) -> None:
    path = file("log = { to = 'file:a', access-to = 'stdout' }\nquota.file = 'b'")
    settings = configured("--config", path).settings
    assert str(settings.log.to) == f"file:{tmp_path}/a"
    assert str(settings.log.accessTo) == "stdout"
    assert settings.quota.file.path == f"{tmp_path}/b"
    assert configured("--set", "quota.file=b").settings.quota.file.path == "b"


def test_strangeFolders() -> None:
    assert absolute("hashed:u", "/a:b=c\\d") == "hashed:/a\\:b\\=c\\\\d/u"
    assert absolute("file:u", "/a:b") == "file:/a:b/u"
    assert absolute("file:u", "/a\\1") == "file:/a\\1/u"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("prot = 1", 1, "unknown key 'prot': did you mean port? expected "),
        ("\nport = 1\nport = 2", 3, "Cannot overwrite a value"),
        ("port = true", 1, "port: expected a number or a text, not true"),
        ("port = []", 1, "port: the list is empty"),
        ("port = [\n1,\n1]", 3, "port: this is there twice"),
        ("port = 65536", 1, "port 65536: expected a number from 0 to 65535"),
        ("interface = 3", 1, "interface: expected a text, not 3"),
        ("auth = ['']", 1, "auth: expected something, not an empty text"),
        ("auth = { env = 'NO_SUCH' }", 1, "auth: there is no NO_SUCH in the env"),
        ("auth = { file = '/no/such' }", 1, "auth: /no/such: No such file"),
        ("auth = { envy = 'A' }", 1, "auth: expected a text, { env = 'NAME' } or"),
        ("open = 'yes'", 1, "open: expected true or false, not 'yes'"),
        ("relay = 'fast'", 1, "relay fast: expected auto or portable"),
        ("access-log = 'xml'", 1, "access-log xml: expected text, json or off"),
        ("\nrules = 'none.toml'", 2, "none.toml: No such file"),
        ("route = 'socks5:x'", 1, "route: expected tables [route.NAME]; the server's"),
        ("[route.a]\nbind = 'x'", 2, "bind: x: expected "),
        ("timezone = 'Nowhere'\n" + RULE, 1, "timezone: Nowhere: expected a name"),
        ("timezone = 'UTC'", 1, "expected at least one [[rule]]"),
        ("[[rule]]\naction = 'alow'", 2, "action: alow: expected allow or deny"),
        ("timeout = 3", 1, "timeout: expected a table, [timeout]"),
        ("[timeout]\n\nidel = 3", 3, "unknown key 'idel': did you mean idle?"),
        ("[timeout]\nidle = '3'", 2, "idle: expected a number of seconds, not '3'"),
        ("[timeout]\nidle = true", 2, "idle: expected a number of seconds, not true"),
        ("[timeout]\nidle = -1", 2, "idle: must be 0 or more, not -1"),
        ("\ntimeout.idle = -1", 2, "idle: must be 0 or more, not -1"),
        ("\ntimeout = { idle = -1 }", 2, "idle: must be 0 or more, not -1"),
        ("[limit]\nsessions = 1.5", 2, "sessions: expected a whole number, not 1.5"),
        ("[udp]\nreplies = 1", 2, "replies: expected a text, not 1"),
        (
            "[udp]\nreplies = 'all'",
            2,
            "udp.replies: expected address or any, not 'all'",
        ),
        ("[quota]\nfile = 3", 2, "quota.file: expected a text, not 3"),
        (f"[timeout]\nidle = {'9' * 400}", 2, "timeout.idle: must be 0 or more, not 9"),
        (
            "[limit]\nbandwidth = -1",
            2,
            "limit.bandwidth: expected a whole number, such",
        ),
        (
            "[log]\nrotate-files = 10001",
            2,
            "log.rotate-files: expected a number from 1",
        ),
        (
            "[log]\nto = 'file:a\\u0000'".replace("'", '"'),
            2,
            "log.to: expected file:PATH",
        ),
        ("[log]\nto = { envy = 'A' }", 2, "log.to: expected a text, { env = 'NAME' }"),
        (
            "[log]\nto = { env = 'NO_SUCH' }",
            2,
            "log.to: there is no NO_SUCH in the env",
        ),
        ("[log]\nto = { file = '/no/such' }", 2, "log.to: /no/such: No such file"),
        (
            "[log]\nto = { file = '/dev/null' }",
            2,
            "log.to: /dev/null is empty; expected",
        ),
        ('auth = { file = "\\u0000" }', 1, "embedded null byte"),
        ("auth = [['memory:a:swordfish']]", 1, "auth: expected a text, not a list"),
        ("listener = []", 1, "listener: the list is empty"),
        (
            "metrics = '\x7f'".replace("\x7f", "\\u001b[2J").replace("'", '"'),
            1,
            "metrics \\x1b[2J: ",
        ),
        (
            "[route.a]\nproxy = { env = 'NO_SUCH' }",
            2,
            "route.a.proxy: there is no NO_SUCH",
        ),
        ("[udp]\nports = [1]", 2, "ports: expected a number or a text, not a list"),
        ("[udp]\nports = 0", 2, "ports: expected ports from 1 to 65535"),
        ("listener = 3", 1, "listener: expected tables, each with [[listener]]"),
        ("[[listener]]\nendpoint = 1\nlimit = 5", 3, "limit: expected a table"),
        (
            "[[listener]]\nendpoint = 1\nlimit = { session = 5 }",
            3,
            "limit: unknown key 'session': did you mean sessions?",
        ),
        ("\n[[listener]]\nopen = true", 2, "a listener without endpoint"),
        ("[[listener]]\nendpoint = 1\nauht = 'x'", 3, "unknown key 'auht': did you"),
        (
            "[[listener]]\nendpoint = 1\n[[listener]]\nendpoint = 'x'",
            4,
            "endpoint x: expected a number",
        ),
    ],
)
def test_wrong(
    file: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    text: str,
    line: int,
    words: str,
) -> None:
    path = file(text)
    with pytest.raises(SystemExit) as wrong:
        configured("--config", path)
    told = str(wrong.value)
    assert "\n" not in told
    assert words in told
    assert told.isprintable()
    assert "swordfish" not in told
    assert told.startswith(f"socks5: {path}:{line}: ")


def test_rulesTwice(file: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULE)
    path = file("\nrules = 'rules.toml'\n" + RULE)
    with pytest.raises(SystemExit, match=f"{path}:2: rules: expected either this or"):
        configured("--config", path)
    assert configured("--config", file("rules = 'rules.toml'")).access.rules


# -- started ---------------------------------------------------------------------------


def test_started(
    start: Start, file: Callable[[str], str], listener: socket.socket
) -> None:
    """
    Each listener lets in by its own methods, to where its own policy says.
    """
    path = file(
        """
        auth = "memory:user:password"
        port = 0
        [[listener]]
        endpoint = "tcp:0:interface=127.0.0.2"
        authenticator = "none"
        policy = "guard:local=elsewhere"
        """
    )
    Path(path).chmod(0o600)
    server = start("--config", path, port=())
    request = connectTo(listener.getsockname()[1])
    with server.connect() as client:
        client.sendall(GREET)
        assert readAll(client) == b"\x05\xff"
    with server.connect() as client:
        client.sendall(LOGIN + request)
        assert readExactly(client, 8) == b"\x05\x02\x01\x00\x05\x00\x00\x01"
    own = server.address("tcp:0:interface=127.0.0.2")
    with socket.create_connection(own, 10) as client:
        client.sendall(GREET + request)
        assert readAll(client) == b"\x05\x00" + failure(2)
    with server.connect() as client:  # nobody gets to one of them by another
        client.sendall(LOGIN + connectTo(own[1], own[0]))
        assert readAll(client) == b"\x05\x02\x01\x00" + failure(2)
    assert "list of processes" not in server.output()
    assert "other users of this host" not in server.output()


def test_listenersFromElsewhere(
    start: Start, file: Callable[[str], str], tmp_path: Path
) -> None:
    """
    The log has where an endpoint was said, when the listener comes and when it goes.
    """
    secret = tmp_path / "secret"
    secret.write_text("tcp:0:interface=127.0.0.3")
    secret.chmod(0o600)
    path = file("port = [0, { file = 'secret' }]")
    server = start("--config", path, port=())
    told = rf"at 127\.0\.0\.3:\d+ \(that of {path}:1: port\)"
    assert re.search(f"SOCKS5 {told}", server.output())
    file("port = 0")
    server.process.send_signal(signal.SIGHUP)
    server.waitForLog("the configuration was loaded")
    assert re.search(f"SOCKS5 no more {told}", server.output())
    assert secret.read_text() not in server.output()


def test_openListener(file: Callable[[str], str]) -> None:
    """
    Whether anybody may come is looked at for each listener.
    """
    path = file(
        """
        auth = "memory:user:password"
        [[listener]]
        endpoint = "tcp:0"
        [[listener]]
        endpoint = "tcp:0:interface=0.0.0.0"
        authenticator = "none"
        """
    )
    done = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", "--config", path],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert done.stderr == (
        f"socks5: {path}:6: endpoint tcp:0:interface=0.0.0.0: anybody could use this "
        "proxy from other machines; leave authenticator none out, or add open = true "
        "to let everybody in\n"
    )


def test_passwordsOnTheCommandLine(start: Start, listener: socket.socket) -> None:
    """
    They do their work, and one warning says who can read them.
    """
    server = start("--auth", "memory:user:password")
    with server.connect() as client:
        client.sendall(LOGIN + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 8) == b"\x05\x02\x01\x00\x05\x00\x00\x01"
    server.waitForLog("other users of this host can read its passwords in the list of")
    assert server.output().count("list of processes") == 1
    assert "user:password" not in server.output()


def test_passwordsInAFileForAll(start: Start, file: Callable[[str], str]) -> None:
    path = file('auth = "memory:user:password"')
    server = start("--config", path)
    server.waitForLog(f"other users of this host can read {path}")


def test_rulesInside(
    start: Start, file: Callable[[str], str], listener: socket.socket
) -> None:
    server = start("--config", file(RULE + 'to = "loopback"\n'))
    assertServes(server, listener)
    with server.connect() as client:
        client.sendall(GREET + connectTo(9, "192.0.2.1"))
        assert readAll(client) == b"\x05\x00" + failure(2)
    server.waitForLog("no rule matches")


def test_amounts(file: Callable[[str], str]) -> None:
    path = file('[limit]\nbandwidth = "1.5M"\nbytes-per-day = 1000\nsessions = 5\n')
    limits = configured("--config", path).settings.limit
    assert limits == Limits(bandwidth=1_500_000, bytesPerDay=1000, sessions=5)


# -- the reference ---------------------------------------------------------------------

REFERENCE = Path(__file__).parent.parent / "docs/reference/configuration.rst"


def test_reference() -> None:
    """
    Each key is in a table of the reference, and no others are.
    """
    text = REFERENCE.read_text()
    top, _, listeners = text.partition("\nListeners\n")
    kinds = SOCKS5Options.kinds()
    texts = {DEFAULT_ROUTE if one == "route" else one for one in kinds.texts}
    assert rows(top) == texts | {*kinds.lists, *kinds.flags}
    assert rows(listeners) == {
        *(*LISTENER_TEXTS, *LISTENER_LISTS, *LISTENER_FLAGS),
        "limit",
    }


def rows(text: str) -> set[str]:
    return set(re.findall(r"^``([a-z-]+)``  ", text, re.MULTILINE))


def test_settingsInTheReference() -> None:
    text = REFERENCE.with_name("command-line.rst").read_text()
    for key in KEYS:
        assert f"``{key}``" in text


ROUTE = RULE + "[route.a]\n"
SETTINGS = [
    key for key, (_, one) in KEYS.items() if type(one.default) not in (int, float)
]


@pytest.mark.parametrize(
    "text",
    [
        *("auth", "default-route", "policy", "port", "relay", "metrics", "workers"),
        *("interface", "command", "authenticator", "access-log"),
        *(key for key in SETTINGS if key != "quota.file"),
        ROUTE + "proxy",
        ROUTE + "plugin",
        ROUTE + "interface",
        "[route.b]\nchain = ['c', 'a']\n[route.c]\nproxy='tcp:h:1'\n" + ROUTE + "proxy",
    ],
)
def test_secretThatIsWrong(
    file: Callable[[str], str], tmp_path: Path, text: str
) -> None:
    """
    It is not shown, whatever is wrong with it.
    """
    (tmp_path / "secret").write_text("sword fish")
    (tmp_path / "secret").chmod(0o600)
    path = file(f"{text} = {{ file = '{tmp_path}/secret' }}\n")
    with pytest.raises(SystemExit) as wrong:
        configured("--check", "--config", path)
    told = str(wrong.value)
    assert "server.toml:" in told
    key = text.rpartition("\n")[2].partition(".")[2] or text.rpartition("\n")[2]
    assert key in told
    assert "sword" not in told and "fish" not in told
