"""Figures for Prometheus: one registry, one way to declare, names that start with `antiphon_`."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_registry = CollectorRegistry()
ProcessCollector(registry=_registry)
PlatformCollector(registry=_registry)


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """Something that is counted: `antiphon_<name>_total`. Labels never carry an address, a text or an id."""
    return Counter(f"antiphon_{name}", meaning, labels, registry=_registry)


def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """Something that is as it is now: `antiphon_<name>`."""
    return Gauge(f"antiphon_{name}", meaning, labels, registry=_registry)


def histogram(
    name: str, meaning: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Histogram:
    """How long something took: `antiphon_<name>_seconds`, with buckets from a millisecond to a minute."""
    return Histogram(f"antiphon_{name}_seconds", meaning, labels, buckets=buckets, registry=_registry)


def render() -> bytes:
    """All of them in the text format of version 0.0.4 (`CONTENT_TYPE`)."""
    return generate_latest(_registry)
