"""Words for a log without the secrets in them."""

from __future__ import annotations

import re
from typing import Final

MOST: Final = 2048
"""Characters of a user and password: without a bound, a text of many addresses would be read again for each of them."""
URL: Final = re.compile(
    rf"""\b([a-z][a-z0-9+.-]{{0,30}}://)            # a scheme
         (?: [^\s/:]{{0,{MOST}}}:\S{{0,{MOST}}}     # a user, and a password of anything, up to the last @ of the word
           | [^\s/@'"]{{0,{MOST}}} )@               # or a user alone
     """,
    re.IGNORECASE | re.VERBOSE,
)
VALUE: Final = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|%s)"""
"""In quotes, or else what the rest says."""
NAMED: Final = re.compile(
    r"""(passw(?:or)?d|passphrase|secret|token|api[_-]?key)
        (\s{0,9}=\s{0,9}|['"]\s{0,9}[:,=]\s{0,9}b?)"""
    + VALUE % r"\S+",
    re.IGNORECASE | re.VERBOSE,
)
"""``password=...`` and ``"password": "..."``, also at the end of a longer name."""
SAID: Final = re.compile(r"(passw(?:or)?d|passphrase|secret|api[_-]?key)(\s{0,9}:\s{1,9})[^\s'\"]+", re.IGNORECASE)
"""``password: ...`` without quotes; tokens are left out, of which prose speaks like this."""
COOKIE: Final = re.compile(
    r"""\b((?:set-)?cookie)(\s{0,9}:\s{0,9}|['"]\s{0,9}[:,=]\s{0,9}b?)""" + VALUE % r"[^\r\n]+",
    re.IGNORECASE,
)
BEARER: Final = re.compile(r"\b(Bearer|Basic)\s+[^\s'\",;]+", re.IGNORECASE)
OURS: Final = re.compile(r"(rl[fs]_[0-9]{1,18}_)[A-Za-z0-9_-]{16,}")
"""Tokens and sessions of the admin server."""


def masked(said: str) -> str:
    """The words without secrets: user and password of URLs, tokens and cookies of headers, values named as passwords.

    What cannot be told from a secret is masked with it: the path of a URL with a port and a later @, for one.
    """
    said = BEARER.sub(r"\1 ***", URL.sub(r"\1***@", said))
    said = SAID.sub(r"\1\2***", NAMED.sub(r"\1\2***", said))
    said = COOKIE.sub(r"\1\2***", said)
    return OURS.sub(r"\1***", said)
