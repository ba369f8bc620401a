"""The meters in Prometheus' text format, worded by its own library, which is loaded at the first call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from rchd.edges.meters import METRICS, Meters, Metric

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def load() -> None:
    """Load the library; in a thread, for it takes longer than a loop should stand."""
    import prometheus_client.parser  # noqa: F401  (with all that is imported below)


def text_of(meters: Meters) -> str:
    """All metrics, those of this process among them, as a scrape reads them."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.registry import Collector

    class Ours(Collector):
        """Hands the library our numbers."""

        def collect(self) -> Iterable[Family]:
            """Every family, also one that has no sample yet."""
            return families(meters)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Ours())
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


def families(meters: Meters) -> Iterator[Family]:
    """The metrics in the order of their table."""
    for metric in METRICS:
        yield _histogram(metric, meters) if metric.kind == "histogram" else _simple(metric, meters)


def _simple(metric: Metric, meters: Meters) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind == "counter":
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    else:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in sorted(meters.numbers[metric.name].items()):
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, meters: Meters) -> Family:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*map(_bound, metric.buckets), "+Inf"]
    for labels, kept in sorted(meters.histograms[metric.name].items()):
        family.add_metric(labels, list(zip(bounds, accumulate(kept.counts), strict=True)), kept.sum)
    return family


def _bound(value: float) -> str:
    """As the library's own histograms spell a bound."""
    from prometheus_client.utils import floatToGoString

    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def samples_of(text: str) -> list[dict[str, object]]:
    """The samples of such a text: name, labels, value."""
    from prometheus_client.parser import text_string_to_metric_families

    return [
        {"name": sample.name, "labels": dict(sample.labels), "value": sample.value}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
