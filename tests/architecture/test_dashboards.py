"""The dashboards ask for meters that the code has, and leave none of them out."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot_runner.meters import ModelMeters
from bot_sdk.meters import TurnMeters
from chassis.telemetry import Telemetry
from gateway.metrics import GatewayMetrics
from memory_service.operations.runner import OperationMetrics
from memory_service.recall.vectorizer import VectorMetrics
from router_service.delivery.meters import MailMeters
from session_service.feed.follower import add_meters
from session_service.operations.metrics import SweepMetrics

DASHBOARDS = sorted((Path(__file__).resolve().parents[2] / "deploy/dashboards").glob("*.json"))
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
OURS = ("bot_", "gateway_", "mail_", "memory_", "mobot_", "rpc_", "session_")


def families() -> dict[str, tuple[set[str], set[str]]]:
    """By name of a meter: the names of its samples, and its labels."""
    telemetry = Telemetry("all")
    telemetry.rpc("session", "/x/Y").observe("OK", 0.0)
    registry = telemetry.registry
    registry.register(MailMeters(in_flight=lambda: 0, workers=lambda: 0))
    add_meters(registry, SimpleNamespace(backlog=0))
    edge, sweeps = GatewayMetrics(registry), SweepMetrics(registry)
    vectors, operations = VectorMetrics(registry), OperationMetrics(registry)
    turns, models = TurnMeters(registry), ModelMeters(registry)
    labelled_ones = (
        *(edge.requests, edge.request_seconds, edge.events, sweeps.items, operations._ended),
        *(turns._ended, turns._failures, turns._calls, turns._call_seconds, models._requests, models._tokens),
    )
    for labelled in labelled_ones:
        labelled.labels(*["x"] * len(labelled._labelnames))
    assert vectors is not None
    found = {}
    for family in registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} | {"le", "instance", "pod"}
        found[family.name] = {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}, labels
    return found


def expressions(path: Path) -> list[str]:
    panels = json.loads(path.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_expression_names_a_meter_and_labels_that_it_has(path):
    known = families()
    labels_of = {sample: labels for samples, labels in known.values() for sample in samples}
    for expression in expressions(path):
        names = re.findall(r"\b[a-z]+(?:_[a-z]+)+\b(?!\s*\()", expression)
        assert names, expression
        assert set(names) <= labels_of.keys(), expression
        labels = {
            *re.findall(r"(\w+)\s*[!=]~?\"", expression),
            *(label for listed in re.findall(r"by \(([\w, ]+)\)", expression) for label in listed.split(", ")),
        }
        assert labels <= set.intersection(*(labels_of[name] for name in names)), expression


def test_every_meter_of_ours_is_on_a_dashboard():
    shown = " ".join(expression for path in DASHBOARDS for expression in expressions(path))
    hidden = [name for name, (samples, _) in families().items() if not any(sample in shown for sample in samples)]
    assert [name for name in hidden if name.startswith(OURS)] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_have_ids_of_their_own(path):
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
