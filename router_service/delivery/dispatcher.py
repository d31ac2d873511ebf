"""The dispatcher: gives mail to workers as soon as there is mail and room, and applies what each commit did.

It belongs to the event loop's thread. Everything it remembers can be rebuilt from the rows.

The class is long on purpose. Which leases are live, which mailboxes are leased or on offer, and what room is left is
one state: mail that comes in, workers that come and go, the opener's reports and every commit each read and change all
of it within one turn of the loop. In parts, each part would hold the others' maps; what has a state of its own has gone
to `room`, `attachments`, `live`, `waiters`, `changes` and `opener`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from chassis.errors import AppError, Draining
from mobot.router.v1 import message_pb2
from router_service.bots import Bots
from router_service.convert.settlements import to_settlement, to_step_receipt
from router_service.delivery.attachments import Attachment
from router_service.delivery.changes import Changes
from router_service.delivery.live import DraftCache, LiveLease
from router_service.delivery.meters import MailMeters
from router_service.delivery.opener import Opener
from router_service.delivery.room import Room
from router_service.delivery.waiters import RunWaiters
from router_service.domain.errors import WorkerReplaced
from router_service.domain.mail import AskedRun, EndedRun, JoinedMessage, Lease, RetryingRun
from router_service.store import reads
from router_service.store.items import (
    Batch,
    CancelAsked,
    Grant,
    Item,
    Join,
    Leased,
    LoseLease,
    Offer,
    Operation,
    RaiseEpoch,
    Reject,
    Remember,
    Send,
    Settle,
    Steered,
)
from router_service.store.router_store import RouterStore

_READY_PAGE = 5_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says when it attaches; `held` are (run, epoch) of leases that it has from before."""

    worker: str
    bots: frozenset[str]
    credit: int
    held: frozenset[tuple[str, int]]


class Dispatcher:
    """See the module. `wake_timers` is told the earliest time (in microseconds) at which a timer must look."""

    def __init__(
        self,
        store: RouterStore,
        bots: Bots,
        waiters: RunWaiters,
        *,
        lease_us: int,
        new_id: Callable[[], str],
        wake_timers: Callable[[int], None],
        changes: Changes,
    ) -> None:
        self._store = store
        self._mail = store.mail
        self._bots = bots
        self._waiters = waiters
        self._lease_us = lease_us
        self._new_id = new_id
        self._wake_timers = wake_timers
        self.room = Room(bots)
        self.changes = changes
        self._workers: dict[str, Attachment] = {}
        self._live: dict[str, LiveLease] = {}
        # Sessions with a lease of ours, or with an offer on the way: no use in offering again.
        self._leased: dict[str, str] = {}
        self._offered: set[str] = set()
        self._drafts = DraftCache()
        self._numbers = 0
        self.meters = MailMeters(in_flight=lambda: len(self._live), workers=lambda: len(self._workers))
        self._draining = False
        self._opener: Opener | None = None
        self._mail.listen(on_commit=self._committed, on_failure=self._failed)

    def connect(self, opener: Opener) -> None:
        """The opener, which is made after the dispatcher because it reports to it."""
        self._opener = opener

    @property
    def opener(self) -> Opener:
        if self._opener is None:
            raise RuntimeError("the dispatcher has no opener yet")
        return self._opener

    # Mail comes in.

    def send(self, item: Send) -> None:
        """Posts a message, with room for it if it can be delivered at once."""
        item.offer = self.offer(item.message.session, item.message.bot)
        self._mail.post(item)

    def offer(self, session: str, bot: str) -> Offer | None:
        """Room for the head of an idle mailbox, set aside until the item that carries it is answered."""
        if session in self._leased or session in self._offered:
            return None
        attachment = self.room.take(bot)
        if attachment is None:
            return None
        self._offered.add(session)
        return Offer(attachment.number, attachment.worker, bot, attachment.pull_lease_us)

    def find(self, run: str) -> LiveLease | None:
        """The lease on a run, if this process holds it."""
        return self._live.get(run)

    def take_in(self, attachment: Attachment, run: str, epoch: int) -> Join | None:
        """The turn of a lease of this stream has taken in the steered message with the run `run`: to be posted."""
        for live in attachment.live.values():
            handed = live.steered.get(run)
            if handed is not None and live.lease.epoch == epoch and not live.ended:
                live.take_in(*handed)
                lease = live.lease
                return Join(session=lease.session, run=lease.run, epoch=epoch, message_id=handed[0].message_id)
        return None

    def take_in_stored(self, attachment: Attachment, session: str, message_id: str, epoch: int) -> Join | None:
        """The same for a message that was handed over before this router was started."""
        for live in attachment.live.values():
            lease = live.lease
            if lease.session == session and lease.epoch == epoch and not live.ended:
                live.joined = None  # what its answer needs only the rows know
                return Join(session=session, run=lease.run, epoch=epoch, message_id=message_id)
        return None

    def settle(self, item: Settle, attachment: Attachment | None) -> None:
        """Posts the end of an attempt and hands the room that it leaves to whoever is next."""
        live = self._live.get(item.run)
        if live is not None and live.lease.epoch == item.epoch:
            item.lease = live.lease
            if attachment is not None and live.attachment == attachment.number:
                self._follow(item, live.lease, attachment)
                return
        self._mail.post(item, patient=attachment is not None)

    def _follow(self, item: Settle, lease: Lease, attachment: Attachment) -> None:
        following = self.room.follow(attachment, lease.bot)
        if following is None:
            self._mail.post(item, patient=True)
            return
        session, bot = following
        offer = Offer(attachment.number, attachment.worker, bot)
        if session is None:
            item.offer = offer
            self._mail.post(item, patient=True)
            return
        self._mail.post(item)
        self._offered.add(session)
        self._mail.post(Grant(session=session, bot=bot, offer=offer))

    # Workers come and go.

    async def attach(self, hello: Hello) -> tuple[Attachment, list[tuple[str, int]]]:
        """A worker's new stream, and which of the leases it holds go on. An older stream of the worker is closed.

        Raises:
            Unavailable: DRAINING.
            FailedPrecondition: WORKER_REPLACED; a still newer stream came while this one was being attached.
        """
        if self._draining:
            raise Draining
        attachment = self._new_attachment(hello.worker, hello.bots, hello.credit)
        older = self._workers.get(hello.worker)
        self._workers[hello.worker] = attachment
        if older is not None:
            self._forget(older)
            older.close(WorkerReplaced(hello.worker))
        try:
            await self._bots.refresh(hello.bots)
            leases = await self._store.attach(hello.worker, attachment.id, self._store.now_us() + self._lease_us)
            attachment.recorded = True
            self._check_newest(attachment)
            self.room.add(attachment)
            confirmed = self._adopt(attachment, leases, hello.held)
            await self.look_for_mail(hello.bots)
        except BaseException:
            self.detach(attachment)
            raise
        return attachment, confirmed

    def attach_pull(self, worker: str, bots: frozenset[str], most: int) -> Attachment:
        """Room for one pull; its leases live for a lease's length, without a stream."""
        if self._draining:
            raise Draining
        attachment = self._new_attachment(worker, bots, most, pull_lease_us=self._lease_us)
        self.room.add(attachment)
        return attachment

    def change_bots(self, attachment: Attachment, bots: frozenset[str]) -> None:
        if not attachment.closed:
            self.room.change_bots(attachment, bots)
            self.pump()

    def drain(self, attachment: Attachment) -> None:
        """No more deliveries to this stream; it ends when nothing is in flight."""
        attachment.draining = True
        attachment.end_if_idle()

    def detach(self, attachment: Attachment) -> None:
        """The stream is gone. Leases wait for the worker to come back, unless it said that it would not."""
        self._forget(attachment)
        if self._workers.get(attachment.worker) is attachment:
            del self._workers[attachment.worker]
        for live in attachment.live.values():
            if live.attachment == attachment.number:  # else a newer stream has it already
                live.attachment = 0
                if attachment.draining and not attachment.pull_lease_us:
                    self._lose(live.lease)
        attachment.live.clear()
        attachment.close()
        self.pump()

    def current_attachments(self) -> list[Attachment]:
        """The newest stream of each worker."""
        return list(self._workers.values())

    def replaced(self, workers: Iterable[str]) -> None:
        """These workers have a newer stream at another replica."""
        for worker in workers:
            attachment = self._workers.pop(worker, None)
            if attachment is not None:
                self._forget(attachment)
                attachment.close(WorkerReplaced(worker))

    def end_streams(self) -> None:
        """Ends all streams for a shutdown; the leases stay for the workers to come back with."""
        self._draining = True
        for attachment in list(self.room.attachments.values()):
            attachment.close(Draining())

    async def look_for_mail(self, bots: Iterable[str] | None = None) -> None:
        """Reads which mailboxes are ready, of these or of all served bots, and pumps."""
        served = self.room.served_bots() if bots is None else [b for b in bots if self.room.worker_count(b)]
        if served:
            now_us = self._store.now_us()
            ready = await self._store.read(lambda conn: reads.ready_sessions(conn, served, now_us, _READY_PAGE))
            for session, bot in ready:
                if session not in self._leased and session not in self._offered:
                    self.room.mark_ready(session, bot)
        self.pump()

    def pump(self) -> None:
        """Leases for as long as there is mail and room."""
        if self._draining:
            return
        for session, bot, attachment in self.room.pairs():
            self._offered.add(session)
            offer = Offer(attachment.number, attachment.worker, bot, attachment.pull_lease_us)
            self._mail.post(Grant(session=session, bot=bot, offer=offer))

    # Other replicas, by way of the relay.

    def held_leases(self) -> list[LiveLease]:
        """Those that streams of this process have and their sessions' logs know."""
        return [live for live in self._live.values() if live.opened and live.attachment]

    def stop(self, live: LiveLease, reason: str) -> None:
        """Somebody asked for the end of the run."""
        attachment = self.room.attachments.get(live.attachment)
        if attachment is not None:
            attachment.stop(live, reason, lost=False)

    def lost(self, live: LiveLease) -> None:
        """The lease was taken away: its worker shall write nothing more."""
        attachment = self.room.attachments.get(live.attachment)
        if self._live.get(live.lease.run) is not live:
            return
        self._end(live.lease.run, {})
        if attachment is not None:
            attachment.stop(live, "the lease is lost", lost=True)

    # The opener reports.

    def opened(self, live: LiveLease, sequence: int) -> None:
        """The session's log has the attempt: the worker gets it."""
        live.opened, live.sequence = True, sequence
        if not live.ended:
            attachment = self.room.attachments.get(live.attachment)
            if attachment is not None:
                attachment.deliver(live)

    def fenced(self, live: LiveLease, mark: int) -> None:
        """The log knows a higher epoch."""
        if not live.ended:
            self._mail.post(RaiseEpoch(session=live.lease.session, lease=live.lease, mark=mark))

    def rejected(self, live: LiveLease, reason: str, message: str) -> None:
        """The log will never take the message."""
        if not live.ended:
            lease = live.lease
            self._mail.post(Reject(session=lease.session, lease=lease, error_reason=reason, error_message=message))

    def steerable(self, live: LiveLease, joined: JoinedMessage, draft: message_pb2.MessageDraft, sequence: int) -> None:
        """The session's log has the message: the running turn gets it."""
        attachment = self.room.attachments.get(live.attachment)
        if attachment is not None and not live.ended:
            attachment.steer(live, joined, draft, sequence)

    # Commits.

    def _committed(self, written: Sequence[Item]) -> None:
        items = _flat(written)
        for item in items:
            if type(item) is Send and item.refusal is None and not item.duplicate:
                draft = item.draft
                if draft is not None:
                    message = item.message
                    self._drafts.put(message.id, cast(message_pb2.MessageDraft, draft), len(message.draft))
        for item in items:
            batch = item.batch
            if batch is None:
                continue
            if not batch.applied:
                batch.applied = True
                self._apply(batch)
            if item.offer is not None:
                self._return_offer(item, item.offer, used=id(item.offer) in batch.used)
            if type(item) is Settle:
                self._settled(item, batch)
            elif type(item) is Remember:
                self._remembered(item)
        self._mark_boxes(items)
        self.pump()

    def _failed(self, written: Sequence[Item], error: AppError) -> None:
        items = _flat(written)
        for item in items:
            if item.offer is not None:
                self._return_offer(item, item.offer, used=False)
            if type(item) is Settle:
                if item.reply_offer is not None and item.reply is not None:
                    self._offered.discard(item.reply.session)
                    self.room.free(item.reply_offer.attachment, item.reply_offer.bot)
                item.refusal = error
                self._settled(item, None)
            elif type(item) is Remember:
                item.refusal = error
                self._remembered(item)
            elif type(item) is Join:
                self._lose_stream(item.run, error)
        _log.warning("mail was not written", extra={"items": len(items), "reason": error.reason or error.code})

    def _lose_stream(self, run: str, error: AppError) -> None:
        """Makes a worker say again, over a new stream, what has no answer of its own."""
        live = self._live.get(run)
        attachment = None if live is None else self.room.attachments.get(live.attachment)
        if attachment is not None:
            attachment.close(error)

    def _apply(self, batch: Batch) -> None:
        gone: dict[str, LiveLease] = {}
        meters = self.meters
        for effect in batch.effects:
            if type(effect) is Leased:
                meters.leases += effect.offer is not None
                self._leased_one(effect)
            elif type(effect) is EndedRun:
                meters.ended[effect.state] += 1
                live = self._end(effect.run, gone)
                opened = live is not None and live.opened
                draft = live.draft if live is not None else self._drafts.pop(effect.message_id)
                self.opener.close_run(effect, draft, opened=opened)
                self._waiters.notify(effect.run)
            elif type(effect) is RetryingRun:
                meters.retries += 1
                self._end(effect.run, gone)
                self.opener.retry_run(effect)
            elif type(effect) is AskedRun:
                meters.questions += 1
                self._end(effect.run, gone)
                self.opener.ask_run(effect)
            elif type(effect) is Steered:
                host = self._live.get(effect.host)
                if host is not None and host.lease.epoch == effect.epoch and host.attachment:
                    self.opener.steer_run(host, effect.message, self._drafts.get(effect.message.message_id))
            elif type(effect) is CancelAsked:
                meters.taken_away += effect.lost
                stopped = gone.get(effect.run) or self._live.get(effect.run)
                attachment = self.room.attachments.get(stopped.attachment) if stopped is not None else None
                if stopped is not None and attachment is not None:
                    attachment.stop(stopped, effect.reason, lost=effect.lost)
        if batch.due_us:
            self._wake_timers(batch.due_us)
        if batch.changed:
            self.changes.note(batch.changed)

    def _leased_one(self, effect: Leased) -> None:
        lease, offer = effect.lease, effect.offer
        if offer is None:
            live = self._live.get(lease.run)
            if live is not None:
                live.lease = lease
                self.opener.open_run(live)
            return
        live = LiveLease(lease, offer.attachment, self._drafts.pop(lease.message_id), joined={})
        self._live[lease.run] = live
        self._leased[lease.session] = lease.run
        attachment = self.room.attachments.get(offer.attachment)
        if attachment is not None:
            attachment.live[lease.run] = live
        elif not lease.pulled_until_us:
            # The stream went away while the lease was written, and the worker cannot know of it.
            self._lose(lease)
        self.opener.open_run(live)

    def _end(self, run: str, gone: dict[str, LiveLease]) -> LiveLease | None:
        live = self._live.pop(run, None)
        if live is None:
            return None
        live.ended = True
        gone[run] = live
        lease = live.lease
        if self._leased.get(lease.session) == run:
            del self._leased[lease.session]
        attachment = self.room.attachments.get(live.attachment)
        self.room.free(live.attachment, lease.bot)
        if attachment is not None:
            attachment.live.pop(run, None)
            attachment.end_if_idle()
        return live

    def _return_offer(self, item: Item, offer: Offer, *, used: bool) -> None:
        if type(item) is Send:
            self._offered.discard(item.message.session)
        elif type(item) is not Settle:
            self._offered.discard(cast(Grant, item).session)
        if not used:
            self.room.free(offer.attachment, offer.bot)
            attachment = self.room.attachments.get(offer.attachment)
            if attachment is not None:
                attachment.end_if_idle()

    def _settled(self, item: Settle, batch: Batch | None) -> None:
        if batch is not None and item.reply_offer is not None and item.reply is not None:
            self._offered.discard(item.reply.session)
            if id(item.reply_offer) not in batch.used:
                self.room.free(item.reply_offer.attachment, item.reply_offer.bot)
        attachment = self.room.attachments.get(item.attachment)
        if attachment is not None:
            attachment.settled(to_settlement(item))

    def _remembered(self, item: Remember) -> None:
        attachment = self.room.attachments.get(item.attachment)
        if attachment is not None:
            attachment.remembered(to_step_receipt(item))

    def _mark_boxes(self, items: Sequence[Item]) -> None:
        # After the offers of the same transaction are returned, or their sessions would be taken for spoken for.
        seen: Batch | None = None
        for item in items:
            batch = item.batch
            if batch is None or batch is seen:
                continue
            seen = batch
            for box in batch.boxes:
                if not box.ready:
                    self.room.unmark(box.session, box.bot)
                elif box.session not in self._offered and box.session not in self._leased:
                    self.room.mark_ready(box.session, box.bot)

    # Workers' leases.

    def _new_attachment(self, worker: str, bots: frozenset[str], window: int, *, pull_lease_us: int = 0) -> Attachment:
        self._numbers += 1
        return Attachment(
            self._numbers,
            self._new_id(),
            worker,
            bots,
            window,
            lease_expire_us=lambda: self._store.now_us() + self._lease_us,
            pull_lease_us=pull_lease_us,
        )

    def _check_newest(self, attachment: Attachment) -> None:
        if self._workers.get(attachment.worker) is not attachment:
            raise WorkerReplaced(attachment.worker)

    def _forget(self, attachment: Attachment) -> None:
        """Takes the stream out of the room; its leases keep counting for their bots alone."""
        self.room.remove(attachment)

    def _adopt(
        self, attachment: Attachment, leases: Sequence[tuple[Lease, bool]], held: frozenset[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        confirmed: list[tuple[str, int]] = []
        for lease, cancelled in leases:
            live = self._live.get(lease.run)
            if (lease.run, lease.epoch) in held:
                confirmed.append((lease.run, lease.epoch))
                if live is None:
                    live = LiveLease(lease, 0, opened=True, delivered=True)
                    self.room.occupy(None, lease.bot)
            elif live is None or live.delivered or lease.pulled_until_us:
                if not lease.pulled_until_us:
                    self._lose(lease)  # another process of the same name had it
                continue
            self._live[lease.run] = live
            self._leased[lease.session] = lease.run
            live.attachment = attachment.number
            attachment.live[lease.run] = live
            attachment.in_flight += 1
            if cancelled:
                attachment.stop(live, live.stop_reason or "cancelled", lost=False)
            if live.opened and not live.delivered:
                attachment.deliver(live)
        return confirmed

    def _lose(self, lease: Lease) -> None:
        self._mail.post(LoseLease(session=lease.session, worker=lease.worker, epoch=lease.epoch))


def _flat(items: Sequence[Item]) -> Sequence[Item]:
    """The items, and after those that are made of others, their parts."""
    if not any(type(item) is Operation for item in items):
        return items
    flat: list[Item] = []
    for item in items:
        flat.append(item)
        if type(item) is Operation:
            flat.extend(item.parts)
    return flat
