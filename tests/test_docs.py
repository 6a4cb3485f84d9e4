# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Everything that the documentation shows is run: C{CONTRIBUTING.rst} tells how
it is marked.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from docutils.core import publish_string

from tests.kdc import KDC, served

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
PATIENCE = 20.0
PAGE = b"<title>An example</title>"

CURL_NOT_CONNECTED = 7
CURL_PROXY_REFUSED = 97


@attrs.frozen
class Block:
    """
    A block of code in a page.
    """

    page: Path
    line: int
    language: str
    options: dict[str, str]
    text: str

    @property
    def classes(self) -> set[str]:
        return set(self.options.get("class", "").split())

    @property
    def fileName(self) -> str | None:
        name = self.options.get("caption") or self.options.get("name", "")
        return name if "." in name else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


DIRECTIVE = re.compile(r"\.\. (code-block|literalinclude):: (\S+)$")
OPTION = re.compile(r" +:([a-z]+): *(.*)$")


def blocksOf(page: Path) -> Iterator[Block]:
    """
    The blocks of a page, in their order.
    """
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        found = DIRECTIVE.match(line)
        if not found:
            continue
        kind, argument = found.groups()
        rest = iter(lines[number:])
        options, content = {}, []
        for each in rest:
            option = OPTION.match(each)
            if option is None:
                content.append(each)
                break
            options[option[1]] = option[2]
        for each in rest:
            if each and not each.startswith(" "):
                break
            content.append(each)
        text = textwrap.dedent("\n".join(content)).strip() + "\n"
        if kind == "literalinclude":
            text = (page.parent / argument).read_text()
            argument = options["language"]
        yield Block(page, number, argument, options, text)


BLOCKS = [block for page in PAGES for block in blocksOf(page)]
TRANSCRIPTS = [block for block in BLOCKS if "transcript" in block.classes]


def test_everyBlockIsMarked() -> None:
    """
    Nothing that looks like code escapes: there are no other literal blocks,
    and no languages or classes that nobody knows.
    """
    for page in PAGES:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            assert not line.endswith("::") or line.startswith(".. "), (page, number)
    for block in BLOCKS:
        assert block.language in ("sh", "python", "text", "toml"), block
        assert block.classes <= {
            "fails",
            "install",
            "password",
            "restart",
            "server",
            "transcript",
        }, block


@pytest.mark.parametrize("page", ["README.rst", "CHANGELOG.rst", "CONTRIBUTING.rst"])
def test_renders(page: str) -> None:
    """
    Without a warning, also where Sphinx is not at hand.
    """
    source = (ROOT / page).read_text()
    settings = {"halt_level": 2, "report_level": 2, "syntax_highlight": "none"}
    assert publish_string(source, writer="html5", settings_overrides=settings)


def test_examplesAreShown() -> None:
    """
    So that they are run with the page that shows them.
    """
    shown = "".join(page.read_text() for page in PAGES)
    for example in (ROOT / "examples").rglob("*.py"):
        assert str(example.relative_to(ROOT)) in shown


def test_readmeShowsTheExample() -> None:
    (shown,) = (
        block.text
        for block in BLOCKS
        if block.page.name == "README.rst" and block.fileName == "embed.py"
    )
    assert (ROOT / "examples/embed.py").read_text().endswith(shown)


def test_readmeHasTwoCommands() -> None:
    """
    Each is one line; and what a page has the reader install is a part of one.
    """
    commands = [
        block.text
        for block in BLOCKS
        if block.options.get("name") in ("run-command", "test-command")
    ]
    assert [command.count("\n") for command in commands] == [1, 1]
    for block in BLOCKS:
        if "install" in block.classes:
            assert commands[0].startswith(block.text.strip()), block


# -- pages as sessions --------------------------------------------------------


class _Example(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def website() -> Iterator[int]:
    """
    A web server's port.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), _Example) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def freePort() -> int:
    """
    One that nobody listens on.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Reader:
    """
    Does what a page says, from top to bottom.
    """

    def __init__(self, folder: Path, website: int) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.ports = {str(port): str(freePort()) for port in range(1080, 1089)}
        self.ports["1089"] = self.website = str(website)
        (folder / ".venv").symlink_to(sys.prefix)

    def adapted(self, text: str) -> str:
        """
        The text with ports and names that are there.
        """
        text = text.replace("http://example.org/", f"http://localhost:{self.website}/")
        text = text.replace("http://example.org:", "http://localhost:")
        return re.sub(r"\b108\d\b", lambda found: self.ports[found[0]], text)

    def read(self, block: Block) -> None:
        """
        Do what a block says.
        """
        if block.fileName:
            path = self.folder / block.fileName
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.adapted(block.text))
        elif block.language == "python":
            self.succeed(block, [sys.executable, "-c", self.adapted(block.text)])
        elif block.language == "sh" and not (
            "install" in block.classes or "name" in block.options
        ):
            self.command(block)

    def command(self, block: Block) -> None:
        missing = [
            word
            for word in ("curl", "haproxy", "openssl", "promtool", "socat")
            if re.search(rf"^{word} ", block.text, re.MULTILINE)
            and not shutil.which(word)
        ]
        if missing:
            assert "CI" not in os.environ, f"{block}: {missing[0]} is not installed"
            pytest.skip(f"{block}: {missing[0]} is not installed")
        if "restart" in block.classes:
            self.stop()
        words = ["bash", "-ec", self.adapted(block.text)]
        if block.classes & {"server", "restart"}:
            self.running.append(self.begin(words))
        elif "fails" in block.classes:
            self.fail(block, words)
        else:
            self.succeed(block, words)

    def begin(self, words: list[str]) -> subprocess.Popen[bytes]:
        with open(self.folder / "output", "ab") as output:
            output.write(shlex.join(words).encode() + b"\n")
            output.flush()
            return subprocess.Popen(
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def succeed(self, block: Block, words: list[str]) -> None:
        """
        Run a command until it succeeds: a server that was begun before it may
        need a while, and only the command itself can tell.
        """
        last = time.monotonic() + PATIENCE
        while self.begin(words).wait(PATIENCE) != 0:
            for server in self.running:
                assert server.poll() is None, self.told(block)
            assert time.monotonic() < last, self.told(block)
            time.sleep(0.1)
        if words[-1].startswith("curl "):
            assert PAGE.decode() in self.told(block), self.told(block)

    def fail(self, block: Block, words: list[str]) -> None:
        """
        Run a command that must fail; C{curl} because of what the proxy has
        answered, not because it does not listen yet.
        """
        last = time.monotonic() + PATIENCE
        isCurl = block.text.startswith("curl ")
        while (status := self.begin(words).wait(PATIENCE)) == CURL_NOT_CONNECTED:
            assert isCurl, self.told(block)
            assert time.monotonic() < last, self.told(block)
            time.sleep(0.1)
        assert status == CURL_PROXY_REFUSED if isCurl else status != 0, self.told(block)

    def told(self, block: Block) -> str:
        output = (self.folder / "output").read_text(errors="replace")
        return f"{block}\n{output}"

    def stop(self) -> None:
        """
        End what was left running.
        """
        while self.running:
            server = self.running.pop()
            if server.poll() is None:  # else what has ended it was told already
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(PATIENCE)


SESSIONS = [
    page
    for page in PAGES
    if any(
        block.page == page and (block.fileName or block.language != "text")
        for block in BLOCKS
    )
]


NEEDED = {
    "gssapi.rst": ("gssapi", "pycurl"),
    "treq-and-scrapy.rst": ("treq",),
}


def needPackages(*names: str) -> None:
    """
    Skip the test where a package is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            assert "CI" not in os.environ, f"{name} is not installed"
            pytest.skip(f"{name} is not installed")


@pytest.fixture
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KDC]:
    """
    A Kerberos realm in which nobody is yet, with what is needed to use it.
    """
    yield from served(KDC(tmp_path_factory.mktemp("kdc")))


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.name)
def test_page(
    page: Path, tmp_path: Path, website: int, request: pytest.FixtureRequest
) -> None:
    needPackages(*NEEDED.get(page.name, ()))
    if page.name == "gssapi.rst":
        request.getfixturevalue("kdc")
    reader = Reader(tmp_path, website)
    try:
        if page.name == "README.rst":
            (first,) = (
                block for block in BLOCKS if block.options.get("name") == "run-command"
            )
            last = first.text.rpartition(" && ")[2]
            reader.running.append(reader.begin(["bash", "-ec", reader.adapted(last)]))
        for block in BLOCKS:
            if block.page == page:
                reader.read(block)
        for server in reader.running:
            assert server.poll() is None, reader.told(block)
    finally:
        reader.stop()


# -- transcripts ----------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[int]:
    """
    The port of a destination that sends back what it gets.
    """

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer:
                while data := peer.recv(4096):
                    peer.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def octets(text: str, ports: dict[str, int]) -> list[int | None]:
    """
    What a line of a transcript stands for; L{None} is any octet.
    """
    words = text.split()
    found: list[int | None] = []
    for index, word in enumerate(words):
        if word in ports:
            low = index > 0 and words[index - 1] == word
            found.append(ports[word] & 0xFF if low else ports[word] >> 8)
        else:
            found.append(None if word == "??" else int(word, 16))
    return found


def receive(client: socket.socket, count: int) -> bytes:
    """
    So many bytes, or fewer if the server closes.
    """
    data = b""
    while len(data) < count:
        some = client.recv(count - len(data))
        if not some:
            break
        data += some
    return data


@pytest.mark.parametrize("block", TRANSCRIPTS, ids=str)
def test_transcript(block: Block, start: Callable[..., Server], echo: int) -> None:
    arguments = []
    if "password" in block.classes:
        arguments = ["--auth", "memory:user:password"]
    server = start(*arguments)
    ports = {"PP": echo, "CC": freePort(), "SS": server.port}
    with server.connect() as client:
        for line in block.text.splitlines():
            direction, _, rest = line.partition(" ")
            text = rest.partition("--")[0].strip()
            if direction == ">" and text == "closed":
                client.shutdown(socket.SHUT_WR)
            elif direction == ">":
                client.sendall(bytes(each or 0 for each in octets(text, ports)))
            elif text == "closed":
                assert client.recv(1) == b"", line
            else:
                assert direction == "<", line
                expected = octets(text, ports)
                received = list(receive(client, len(expected)))
                assert [
                    None if wanted is None else got
                    for wanted, got in zip(expected, received, strict=False)
                ] == expected, (line, bytes(received).hex(" "))
