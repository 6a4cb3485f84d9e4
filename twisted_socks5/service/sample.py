# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A configuration file to begin with, made of the options and settings that there are,
so that it cannot say anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import getdoc
from textwrap import wrap
from typing import Any

from twisted_socks5.service.configfile import DEFAULT_ROUTE
from twisted_socks5.service.settings import KEYS
from twisted_socks5.settings import Settings

_WIDTH = 78

_HEAD = """\
Configuration of twistd socks5 (TOML): twistd -n socks5 --config FILE. All of it is
commented out, with the defaults or an example; what stands on the command line wins.
Paths begin where this file is. A text, but those of rules, can be kept elsewhere:
{ env = "NAME" }, { file = "PATH" }. At SIGHUP the file is read again."""

_EXAMPLES = {
    "port": '["1080", "unix:/run/socks5.sock"]',
    "auth": '["hashed:users"]',
    "authenticator": '["certificate"]',
    "command": '["NAME"]',
    DEFAULT_ROUTE: '"socks5:tcp\\\\:192.0.2.1\\\\:1080:user=us:passwordFile=password"',
    "rules": '"rules.toml"',
    "metrics": '"9150"',
}

_NOTES = {
    "rules": "File of rules (TOML), with the guard in front: who may go where. Instead, "
    "[[rule]], [route.NAME] and timezone can stand in this file as they would in that."
}

_TABLES = """\
# A listener with something of its own: its endpoint, or a port and an interface;
# who is let in, the policy, the rules. What it does not say is as above.
#[[listener]]
#endpoint = "mtls:1443:privateKey=key.pem:certKey=cert.pem:clientCA=clients.pem"
#authenticator = ["certificate"]
#policy = "guard"
#open = false
#limit = { sessions = 1000, bandwidth-per-user = "2M" }
"""


def sample(options: Any) -> str:
    """
    The text of the file.

    @param options: The class of the options.
    """
    lines = [*_comment(_HEAD), ""]
    for name, _, default, told in options.optParameters:
        if name != "config":
            key = DEFAULT_ROUTE if name == "route" else name
            value = _EXAMPLES.get(key, f'"{default}"')
            lines += [*_comment(_NOTES.get(key, told)), f"#{key} = {value}", ""]
    for name in options.kinds().lists:
        told = (getdoc(getattr(options, f"opt_{name}")) or "").replace("\n", " ")
        lines += [*_comment(told), f"#{name} = {_EXAMPLES[name]}", ""]
    for name, _, told in options.optFlags:
        if name in options.kinds().flags:
            lines += [*_comment(told), f"#{name} = false", ""]
    for section in dict.fromkeys(section for section, _ in KEYS.values()):
        lines += [*_section(section), ""]
    return "\n".join(lines) + "\n" + _TABLES


def _section(section: str) -> Iterator[str]:
    kind = type(getattr(Settings(), section))
    said = fieldDocs(kind)
    yield from _comment(said[""])
    yield f"#[{section}]"
    for key, (one, field) in KEYS.items():
        if one == section:
            yield from _comment(said[field.name])
            yield f"#{key.partition('.')[2]} = {written(field.default)}"


def written(value: object) -> str:
    """
    A value as TOML has it.
    """
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else f'"{value}"'


def fieldDocs(kind: type[Any]) -> dict[str, str]:
    """
    What a class says of its fields, by their names; and of itself, by an empty one.
    """
    first, *fields = re.split(r"^@ivar (\w+): ", getdoc(kind) or "", flags=re.MULTILINE)
    told = dict(zip(["", *fields[::2]], [first, *fields[1::2]], strict=True))
    return {
        name: " ".join(re.sub(r"[CL]\{\"?(.*?)\"?\}", r"\1", text).split())
        for name, text in told.items()
    }


def _comment(text: str) -> Iterator[str]:
    return (
        f"# {line}"
        for line in wrap(" ".join(text.split()), _WIDTH, break_on_hyphens=False)
    )
