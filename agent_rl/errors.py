"""Errors that a user can act on: the command line prints their one line, without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave is wrong; the message says what, where, and what to do."""
