"""Who is calling: signed bearer tokens, and the caller a handler sees.

A token is "mb1.<base64url principal>.<base64url HMAC-SHA256>", signed with the deployment's secret. Whoever holds
the secret itself is the root operator. Tokens do not expire: changing the secret revokes them all.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from chassis import errors

AUTHORIZATION = "authorization"
ACTOR = "mobot-actor"
ROOT: Final = "operators/root"

_PREFIX = "mb1"
_WORKERS = "workers/"
_BOTS = "bots/"
_BEARER = "Bearer "
_MAX_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class Caller:
    """`principal` is proven by the token: "operators/root", "bots/main", "services/router".

    `root` may act for anyone: the operator who holds the secret, and our own services, which have already checked
    their caller. `actor` is whom the call is made for; it differs from `principal` only for root, and for a worker
    that acts for a bot which it serves.
    """

    principal: str
    root: bool
    actor: str

    @property
    def delegated(self) -> bool:
        """Whether it is not proven by the token alone that the principal may act for the actor."""
        return not self.root and self.actor != self.principal

    @property
    def worker(self) -> str:
        """ "workers/w1" when a worker calls with a token of its own, and for no bot; empty otherwise."""
        return self.principal if not self.root and self.actor.startswith(_WORKERS) else ""


CURRENT_CALLER: ContextVar[Caller | None] = ContextVar("mobot_caller", default=None)


def caller() -> Caller:
    """The caller of the RPC being served, as set by the interceptor."""
    current = CURRENT_CALLER.get()
    if current is None:
        raise errors.Unauthenticated("no authenticated caller: this code runs outside an RPC")
    return current


def bot_of(who: Caller) -> str | None:
    """The bot id the call is made for: "main" when the actor is "bots/main", None for people and services."""
    kind, _, bot = who.actor.partition("/")
    return bot if kind == "bots" and bot else None


def mint_token(secret: str, principal: str) -> str:
    """A token that proves `principal` to anyone who holds the same secret."""
    encoded = _encode(principal.encode())
    return f"{_PREFIX}.{encoded}.{_encode(_sign(secret.encode(), encoded))}"


def principal_of(token: str) -> str:
    """Whom a token claims to be, unproven: for whoever holds it. Empty for what was not minted, such as the secret."""
    prefix, _, rest = token.partition(".")
    if prefix != _PREFIX:
        return ""
    try:
        return _decode_principal(rest.partition(".")[0])
    except errors.Unauthenticated:
        return ""


def caller_metadata(token: str, actor: str | None) -> tuple[tuple[str, str], ...]:
    """What a client sends: its token and, if it acts for somebody else, for whom."""
    bearer = (AUTHORIZATION, _BEARER + token)
    return (bearer,) if actor is None else (bearer, (ACTOR, actor))


class Authenticator:
    """Checks the metadata of incoming calls against one secret."""

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ValueError("an empty secret would let everybody in")
        self._secret = secret.encode()
        # HMAC and base64 cost more than the rest of the interceptor chain; callers are few and come again.
        self._known: dict[tuple[str, str], Caller] = {}

    def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """The caller.

        A worker that acts for a bot is `delegated`: whoever asked must check that it serves it.

        Raises:
            Unauthenticated: no token, or one not signed with our secret.
            PermissionDenied: `mobot-actor` names somebody the principal may not act for.
        """
        authorization = metadata.get(AUTHORIZATION, "")
        actor = metadata.get(ACTOR, "")
        known = self._known.get((authorization, actor))
        if known is not None:
            return known
        who = _caller(self._principal(authorization), actor)
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[authorization, actor] = who
        return who

    def _principal(self, authorization: str) -> str:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise errors.Unauthenticated(f"metadata {AUTHORIZATION!r} must be 'Bearer <token>'")
        if hmac.compare_digest(token.encode(), self._secret):
            return ROOT
        prefix, _, rest = token.partition(".")
        encoded, _, signature = rest.partition(".")
        expected = _encode(_sign(self._secret, encoded))
        if prefix != _PREFIX or not hmac.compare_digest(signature.encode(), expected.encode()):
            raise errors.Unauthenticated("the token is not signed with this deployment's secret; mint a new one")
        return _decode_principal(encoded)


def _caller(principal: str, actor: str) -> Caller:
    root = principal == ROOT or principal.startswith("services/")
    if actor and actor != principal and not root and not (principal.startswith(_WORKERS) and actor.startswith(_BOTS)):
        raise not_allowed(principal, actor)
    return Caller(principal=principal, root=root, actor=actor or principal)


def not_allowed(principal: str, actor: str) -> errors.PermissionDenied:
    return errors.PermissionDenied(
        f"{principal} may not act for {actor}", metadata={"principal": principal, "actor": actor}
    )


def _sign(secret: bytes, encoded_principal: str) -> bytes:
    return hmac.digest(secret, f"{_PREFIX}.{encoded_principal}".encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode_principal(encoded: str) -> str:
    try:
        principal = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise errors.Unauthenticated("the token's principal is not base64url text") from error
    if not principal:
        raise errors.Unauthenticated("the token names no principal")
    return principal
