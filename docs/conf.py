# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Configuration of Sphinx.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted_socks5._version import __version__

project = "twisted_socks5"
author = "twisted_socks5 contributors"
project_copyright = author
release = version = __version__

extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "A SOCKS5 server and plugin framework for Twisted",
    "fixed_sidebar": True,
}
html_show_sourcelink = False
nitpicky = True
