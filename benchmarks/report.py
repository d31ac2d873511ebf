"""Rows of a benchmark: one JSON line each as soon as it is known, and a table at the end."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `ratio` is ours / peer; `target` is a bound on it (or on `ours` where there is no peer)."""

    name: str
    ours: float | None
    peer: float | None
    peer_name: str | None
    ratio: float | None
    target: str
    ok: bool
    cpu_us: float | None
    n: int


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(slots=True)
class Report:
    rows: list[Row] = field(default_factory=list)

    def against(
        self,
        name: str,
        ours: Sequence[float],
        peer: Sequence[float],
        *,
        peer_name: str,
        bound: Literal["at least", "at most"],
        ratio: float,
        cpu_us: Sequence[float] = (),
    ) -> None:
        """Adds a row from interleaved rounds: the median of the ratios of each round decides."""
        ratios = [a / b for a, b in zip(ours, peer, strict=True)]
        middle = median(ratios)
        self._add(
            Row(
                name=name,
                ours=round(median(ours), 4),
                peer=round(median(peer), 4),
                peer_name=peer_name,
                ratio=round(middle, 4),
                target=f"ratio {bound} {ratio:g}",
                ok=middle >= ratio if bound == "at least" else middle <= ratio,
                cpu_us=round(median(cpu_us), 1) if cpu_us else None,
                n=len(ours),
            )
        )

    def absolute(
        self,
        name: str,
        ours: Sequence[float],
        *,
        bound: Literal["at least", "at most"],
        limit: float,
        cpu_us: Sequence[float] = (),
    ) -> None:
        """Adds a row whose target is a bound on our own median."""
        middle = median(ours)
        self._add(
            Row(
                name=name,
                ours=round(middle, 4),
                peer=None,
                peer_name=None,
                ratio=None,
                target=f"{bound} {limit:g}",
                ok=middle >= limit if bound == "at least" else middle <= limit,
                cpu_us=round(median(cpu_us), 1) if cpu_us else None,
                n=len(ours),
            )
        )

    def reported(self, name: str, ours: Sequence[float], *, peer_name: str | None = None) -> None:
        """Adds a row without a target: a figure of ours, or, with its name, of a peer."""
        middle = round(median(ours), 4)
        self._add(
            Row(
                name=name,
                ours=middle if peer_name is None else None,
                peer=None if peer_name is None else middle,
                peer_name=peer_name,
                ratio=None,
                target="reported",
                ok=True,
                cpu_us=None,
                n=len(ours),
            )
        )

    def all_ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(json.dumps(asdict(row)), flush=True)

    def table(self) -> None:
        """Prints the readable table on standard error."""
        heads = ("row", "ours", "peer", "ratio", "target", "cpu us/op", "n", "")
        lines = [heads]
        for row in self.rows:
            lines.append(
                (
                    row.name,
                    "-" if row.ours is None else f"{row.ours:g}",
                    "-" if row.peer is None else f"{row.peer:g} ({row.peer_name})",
                    "-" if row.ratio is None else f"{row.ratio:.2f}",
                    row.target,
                    "-" if row.cpu_us is None else f"{row.cpu_us:g}",
                    str(row.n),
                    "ok" if row.ok else "MISSED",
                )
            )
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        for line in lines:
            print(
                "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=sys.stderr
            )
