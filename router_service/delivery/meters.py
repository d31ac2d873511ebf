"""What is counted of the mail, in plain numbers; they are put into families when somebody asks for them."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router_service.domain.state import TERMINAL, MessageState

_ENDS: Final = tuple(sorted(TERMINAL))


class MailMeters(Collector):
    """Counts since the start of the process. Labels are states and reasons, so that there are few series."""

    def __init__(self, *, in_flight: Callable[[], int], workers: Callable[[], int]) -> None:
        self.ended: Counter[MessageState] = Counter()
        self.leases = 0
        self.retries = 0
        self.taken_away = 0
        self.questions = 0
        self.schedules_refused: Counter[str] = Counter()
        self._in_flight = in_flight
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        ended = CounterMetricFamily("mail_runs_ended", "Runs that ended, by how.", labels=["state"])
        for state in _ENDS:
            ended.add_metric([state.name], self.ended[state])
        yield ended
        yield CounterMetricFamily("mail_leases", "Attempts that were handed out.", value=self.leases)
        yield CounterMetricFamily("mail_retries", "Attempts that ended and will be repeated.", value=self.retries)
        yield CounterMetricFamily("mail_leases_lost", "Leases taken from their workers.", value=self.taken_away)
        yield CounterMetricFamily("mail_questions", "Runs that stopped for a person.", value=self.questions)
        refused = CounterMetricFamily(
            "mail_schedules_refused", "Times of schedules that were left out, by reason.", labels=["reason"]
        )
        for reason, count in sorted(self.schedules_refused.items()):
            refused.add_metric([reason], count)
        yield refused
        yield GaugeMetricFamily("mail_in_flight", "Runs that this process has handed out.", value=self._in_flight())
        yield GaugeMetricFamily("mail_workers", "Streams of workers at this process.", value=self._workers())
