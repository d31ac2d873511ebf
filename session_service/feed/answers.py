"""Answers while they are being written: the text so far, kept until the committed message takes its place."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

MAX_ANSWER_CHARS = 1 << 20
MAX_RUNS = 20_000
MAX_PIECE_CHARS = 16_384
_REMEMBERED_ENDS = 8_192

RunKey = tuple[str, str]
"""A session's resource name and a run id."""


class Delta(NamedTuple):
    """A piece of an answer. `offset` counts code points; `replace`: everything before it is void."""

    session: str
    run: str
    offset: int
    text: str
    replace: bool
    kind: int
    epoch: int
    step: int


class Admission(NamedTuple):
    pk: int
    mark: int


class Answer:
    """One text being written: one step and kind of one run.

    `generation` grows when the text starts anew. `base` is the offset of the first piece that is known here: more than
    0 when this process started in the middle of the answer.
    """

    __slots__ = ("_chunks", "base", "end", "epoch", "generation", "kind", "pk", "run", "session", "step")

    def __init__(self, pk: int, session: str, run: str, step: int, kind: int, epoch: int, base: int) -> None:
        self.pk = pk
        self.session = session
        self.run = run
        self.step = step
        self.kind = kind
        self.epoch = epoch
        self.base = base
        self.end = base
        self.generation = 0
        self._chunks: list[str] = []

    def add(self, delta: Delta) -> bool:
        """Takes a piece in; False when it does not fit onto what is there, or the text is full."""
        if delta.epoch < self.epoch:
            return False
        if delta.replace or delta.offset < self.base or (delta.epoch > self.epoch and delta.offset == 0):
            self.epoch = delta.epoch
            self.generation += 1
            self.base = self.end = delta.offset
            self._chunks = []
        overlap = self.end - delta.offset
        if overlap < 0 or self.end - self.base + len(delta.text) > MAX_ANSWER_CHARS:
            return False
        piece = delta.text[overlap:] if overlap else delta.text
        if piece:
            self._chunks.append(piece)
            self.end += len(piece)
        return True

    def since(self, offset: int) -> str:
        """The text from `offset` on."""
        missing = self.end - offset
        pieces: list[str] = []
        for chunk in reversed(self._chunks):
            if missing <= 0:
                break
            pieces.append(chunk if len(chunk) <= missing else chunk[-missing:])
            missing -= len(chunk)
        pieces.reverse()
        return "".join(pieces)

    def deltas(self, generation: int, offset: int) -> Iterator[Delta]:
        """What a watcher lacks that has got `generation` up to `offset`."""
        replace = generation != self.generation and self.base == 0
        start = offset if generation == self.generation else self.base
        text = self.since(start)
        for at in range(0, len(text) or (1 if replace else 0), MAX_PIECE_CHARS):
            piece = text[at : at + MAX_PIECE_CHARS]
            yield Delta(
                self.session, self.run, start + at, piece, replace and at == 0, self.kind, self.epoch, self.step
            )


class Answers:
    """All answers in progress, by run."""

    def __init__(self) -> None:
        self._runs: OrderedDict[RunKey, dict[tuple[int, int], Answer]] = OrderedDict()
        self._admitted: dict[RunKey, Admission] = {}
        self._ended: OrderedDict[RunKey, None] = OrderedDict()

    @property
    def in_progress(self) -> bool:
        """Whether any run has deltas taken from it."""
        return bool(self._admitted)

    def admits(self, key: RunKey) -> bool | None:
        """Whether deltas of the run are taken; None when it is not known yet whether it is at work."""
        if key in self._ended:
            return False
        return True if key in self._admitted else None

    def admit(self, key: RunKey, pk: int, mark: int) -> None:
        """The run is at work in the session with key `pk`; deltas with an epoch below `mark` are stale."""
        if key in self._ended:
            return
        if len(self._admitted) >= MAX_RUNS:
            oldest = next(iter(self._admitted))
            del self._admitted[oldest]
            self._runs.pop(oldest, None)
        self._admitted[key] = Admission(pk, mark)

    def add(self, delta: Delta) -> tuple[Answer, bool] | None:
        """The answer that the piece belongs to and whether it is a new one; None when the piece is dropped."""
        key = (delta.session, delta.run)
        admission = self._admitted.get(key)
        if admission is None or delta.epoch < admission.mark:
            return None
        answers = self._runs.setdefault(key, {})
        place = (delta.step, delta.kind)
        answer = answers.get(place)
        new = answer is None
        if answer is None:
            answer = Answer(admission.pk, delta.session, delta.run, delta.step, delta.kind, delta.epoch, delta.offset)
            answers[place] = answer
        return (answer, new) if answer.add(delta) else None

    def raise_mark(self, key: RunKey, mark: int) -> None:
        admission = self._admitted.get(key)
        if admission is not None and mark > admission.mark:
            self._admitted[key] = admission._replace(mark=mark)

    def settle(self, key: RunKey) -> list[Answer]:
        """A committed message takes the place of the run's texts; returns what is void now."""
        return list(self._runs.pop(key, {}).values())

    def end(self, key: RunKey) -> list[Answer]:
        """The run has ended: late pieces are dropped."""
        self._admitted.pop(key, None)
        self._ended[key] = None
        if len(self._ended) > _REMEMBERED_ENDS:
            self._ended.popitem(last=False)
        return self.settle(key)

    def revive(self, key: RunKey) -> None:
        """An attempt of the run starts."""
        self._ended.pop(key, None)

    def running(self) -> Iterator[Answer]:
        for answers in self._runs.values():
            yield from answers.values()
