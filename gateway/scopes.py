"""Operator scopes: what a socket may do, and what implies what."""

from collections.abc import Iterable

READ = "operator.read"
WRITE = "operator.write"
ADMIN = "operator.admin"
APPROVALS = "operator.approvals"
QUESTIONS = "operator.questions"
PAIRING = "operator.pairing"
TALK = "operator.talk"
TALK_SECRETS = "operator.talk.secrets"

KNOWN = frozenset({READ, WRITE, ADMIN, APPROVALS, QUESTIONS, PAIRING, TALK, TALK_SECRETS})


def granted(requested: Iterable[str]) -> tuple[str, ...]:
    """The known scopes among those asked for, in the order asked, each once. Unknown ones are dropped."""
    return tuple(dict.fromkeys(scope for scope in requested if scope in KNOWN))


def allows(held: Iterable[str], needed: str) -> bool:
    """Admin may do everything; whoever may write may read."""
    held = frozenset(held)
    if ADMIN in held or needed in held:
        return True
    return needed == READ and WRITE in held
