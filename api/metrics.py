"""What Prometheus is told: counted at the end of requests and of answers, the rest looked up when it asks (shell).

Nothing happens per token. A request costs a few microseconds: labels are turned into their series once and kept.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping

import prometheus_client
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from localai.api.metric_labels import OTHER, BoundedNames, method_label, path_label
from localai.api.middleware import Handler, Middleware
from localai.api.state import ASKED_MODEL
from localai.node.answer_report import AnswerReport
from localai.node.dispatch import Dispatch
from localai.node.workers.lifecycle import State

PATH = "/metrics"
CLIENT_LEFT = 499
"""Status of a request whose client has left before its answer."""
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""From a probe to a long answer on a slow machine."""
GAP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)

_MAX_KEPT_LABELS = 1000

# They double the number of series, and nobody asks for them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # not annotated


class Metrics:
    """All series of one node."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._names = BoundedNames()
        self._labels: dict[str, str] = {}
        self._registry = registry = prometheus_client.CollectorRegistry()
        self._calls = prometheus_client.Histogram(
            "api_call", "api calls", ["method", "path"], registry=registry, buckets=CALL_BUCKETS_S
        )
        self._requests = prometheus_client.Counter(
            "localai_requests", "Requests by route, model and status.", ["route", "model", "status"], registry=registry
        )
        self._answers = prometheus_client.Counter(
            "localai_answers", "Answers of models by how they ended.", ["model", "outcome"], registry=registry
        )
        self._tokens = prometheus_client.Counter(
            "localai_tokens", "Tokens of finished answers.", ["served_model", "kind"], registry=registry
        )
        self._cached = prometheus_client.Counter(
            "localai_cached_tokens",
            "Prompt tokens that need not be computed again.",
            ["served_model"],
            registry=registry,
        )
        self._first_token = prometheus_client.Histogram(
            "localai_time_to_first_token_seconds",
            "From a request to its first token.",
            ["model"],
            registry=registry,
            buckets=CALL_BUCKETS_S,
        )
        self._gap = prometheus_client.Histogram(
            "localai_inter_token_seconds",
            "Mean time between the tokens of an answer.",
            ["model"],
            registry=registry,
            buckets=GAP_BUCKETS_S,
        )
        registry.register(_NodeState(dispatch))
        prometheus_client.ProcessCollector(registry=registry)
        self._call_series: dict[tuple[str, str | None], prometheus_client.Histogram] = {}
        self._request_series: dict[tuple[str | None, str, int], prometheus_client.Counter] = {}

    def saw_request(self, method: str, pattern: str | None, model: str, status: int, seconds: float) -> None:
        """Count one request. ``pattern`` is that of its route; ``model`` what it asked for, or empty."""
        method = method_label(method)
        calls = self._call_series.get((method, pattern))
        if calls is None:
            calls = self._call_series[method, pattern] = self._calls.labels(method, path_label(pattern))
        calls.observe(seconds)
        label = self._model_label(model) if model else ""
        requests = self._request_series.get((pattern, label, status))
        if requests is None:
            requests = self._requests.labels(path_label(pattern), label, str(status))
            self._request_series[pattern, label, status] = requests
        requests.inc()

    def saw_answer(self, report: AnswerReport) -> None:
        """Count one answer."""
        model = self._model_label(report.model)
        self._answers.labels(model, report.outcome.value).inc()
        if report.first_token_s is not None:
            self._first_token.labels(model).observe(report.first_token_s)
        if report.token_gap_s is not None:
            self._gap.labels(model).observe(report.token_gap_s)
        usage = report.usage
        self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model, "completion").inc(usage.completion_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)

    def render(self) -> bytes:
        """All series, in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)

    def _model_label(self, name: str) -> str:
        label = self._labels.get(name)
        if label is None:
            found = self._dispatch.find_model(name)
            if found is None:
                return OTHER  # not kept: it may be installed later, and there is no end to such names
            label = self._names.label(found)
            if len(self._labels) < _MAX_KEPT_LABELS:
                self._labels[name] = label
        return label


METRICS = web.AppKey("metrics", Metrics)


def measure(metrics: Metrics) -> Middleware:
    """Count every request but those for the metrics."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        status = CLIENT_LEFT
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            resource = request.match_info.route.resource
            pattern = resource.canonical if resource is not None else None
            if path_label(pattern) != PATH:
                seconds = time.perf_counter() - began
                metrics.saw_request(request.method, pattern, request.get(ASKED_MODEL, ""), status, seconds)

    return middleware


class _NodeState(Collector):
    """What the node knows of itself at the moment of asking."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not look while the node is put together."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Gauges of workers and peers."""
        dispatch = self._dispatch
        yield _gauge("localai_in_flight", "Answers under way.", {(): dispatch.in_flight})
        workers = [(each.config.name, each.worker) for each in dispatch.models() if each.worker is not None]
        by_model = ("model",)
        active: dict[tuple[str, ...], int] = {(m,): w.active for m, w in workers}
        yield _gauge("localai_active", "Requests in the model.", active, by_model)
        waiting: dict[tuple[str, ...], int] = {(m,): w.waiting for m, w in workers}
        yield _gauge("localai_queue", "Requests waiting.", waiting, by_model)
        states: dict[tuple[str, ...], int] = {
            (model, state.value): int(worker.state is state) for model, worker in workers for state in State
        }
        yield _gauge("localai_worker_state", "1 for the state of the worker.", states, ("model", "state"))
        statuses = dispatch.peers.statuses() if dispatch.peers is not None else ()
        peers = Tally("connected" if status.connected else "away" for status in statuses)
        counts: dict[tuple[str, ...], int] = {("connected",): peers["connected"], ("away",): peers["away"]}
        yield _gauge("localai_peers", "Nodes of the swarm that are known.", counts, ("state",))
        usable = sum(status.usable for status in statuses)
        yield _gauge("localai_sessions", "Nodes that can be asked now.", {(): usable})


def _gauge(name: str, meaning: str, values: Mapping[tuple[str, ...], int], labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
