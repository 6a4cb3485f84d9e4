# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What ends a measurement.
"""

from __future__ import annotations


class Failed(Exception):
    """
    Something is missing, or did not work; its text says what, in one line.
    """
