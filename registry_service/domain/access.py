"""Who may do what: operators and services edit, bots read bots, workers look after themselves.

An actor is "operators/…", "services/…", "bots/…" or "workers/…".
"""

from collections.abc import Sequence

from chassis.errors import PermissionDenied

_EDITORS = ("operators", "services")


def is_editor(actor: str) -> bool:
    return actor.partition("/")[0] in _EDITORS


def check_edit(actor: str) -> None:
    if not is_editor(actor):
        raise _denied(actor, "may read bots but not change them")


def check_read_workers(actor: str) -> None:
    if actor.startswith("bots/"):
        raise _denied(actor, "may not look at workers")


def check_drain(actor: str) -> None:
    if not is_editor(actor):
        raise _denied(actor, "may not drain workers")


def check_owner(actor: str, *, root: bool, owner: str, present: str) -> None:
    """Only root gives a bot to somebody else. `present` is whom it belongs to now, or would by default."""
    if not root and owner != present:
        raise _denied(actor, f"may not give a bot to {owner}")


def check_register(actor: str, *, root: bool, worker: str, bots: Sequence[str]) -> None:
    """Operators, services and the processes they start register any worker; a bot only one that serves itself."""
    kind, _, name = actor.partition("/")
    if kind == "bots":
        if any(bot != name for bot in bots):
            raise _denied(actor, "may register only a worker that serves itself")
    elif kind == "workers":
        if not root and worker != name:
            raise _denied(actor, f"may not register workers/{worker}")
    elif kind not in _EDITORS:
        raise _denied(actor, "may not register workers")


def check_report(actor: str) -> None:
    if actor.partition("/")[0] not in (*_EDITORS, "bots", "workers"):
        raise _denied(actor, "may not report for workers")


def _denied(actor: str, what: str) -> PermissionDenied:
    return PermissionDenied(f"{actor} {what}", metadata={"actor": actor})
