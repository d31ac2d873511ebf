"""Hides what looks like a secret in text that one session reads of another."""

import re

_SECRETS = re.compile(
    r"""
    \b(?:sk|pk|rk|ghp|gho|ghs|xox[abprs])[-_][A-Za-z0-9_-]{16,}      # keys with a vendor's prefix
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+    # signed web tokens
    | \bmb1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{20,}                      # our own
    | (?<=\bBearer\ )[A-Za-z0-9._~+/=-]{16,}
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?-----END\ [A-Z ]*PRIVATE\ KEY-----
    """,
    re.VERBOSE | re.DOTALL,
)


def redacted(text: str) -> str:
    """`text` with every look-alike of a secret replaced."""
    return _SECRETS.sub("[redacted]", text)
