"""The gateway token, and how often an address may guess it."""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

# Guesses of an address are forgotten after a minute; who used all of them up waits five.
_WINDOW_S = 60.0
_LOCKOUT_S = 300.0
# Bounds the table of addresses: the one longest silent is forgotten first.
_MAX_ADDRESSES = 10_000


@dataclass(slots=True)
class _Guesses:
    count: int
    window_start_s: float
    locked_until_s: float = 0.0


class TokenGate:
    """Compares tokens in constant time and counts wrong ones per peer address.

    Loopback is not limited unless asked: one local client with a stale token, reconnecting as clients do, would
    lock out every other client of the machine.
    """

    def __init__(
        self,
        token: str,
        *,
        monotonic: Callable[[], float],
        max_wrong: int = 10,
        limit_loopback: bool = False,
    ) -> None:
        self._token = token.encode()
        self._monotonic = monotonic
        self._max_wrong = max_wrong
        self._limit_loopback = limit_loopback
        self._guesses: OrderedDict[str, _Guesses] = OrderedDict()

    def retry_after_s(self, address: str) -> float:
        """Seconds the address has to wait before it may try again; 0 when it may."""
        guesses = self._guesses.get(address)
        return max(0.0, guesses.locked_until_s - self._monotonic()) if guesses else 0.0

    def matches(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode(), self._token)

    def wrong(self, address: str) -> None:
        """Counts one wrong token."""
        if is_loopback(address) and not self._limit_loopback:
            return
        now = self._monotonic()
        guesses = self._guesses.pop(address, None)
        if guesses is None or now - guesses.window_start_s > _WINDOW_S:
            guesses = _Guesses(count=0, window_start_s=now)
        guesses.count += 1
        if guesses.count >= self._max_wrong:
            guesses.locked_until_s = now + _LOCKOUT_S
        self._guesses[address] = guesses
        while len(self._guesses) > _MAX_ADDRESSES:
            self._guesses.popitem(last=False)

    def right(self, address: str) -> None:
        self._guesses.pop(address, None)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine. "" (a Unix socket peer) is."""
    name = host.strip("[]").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
