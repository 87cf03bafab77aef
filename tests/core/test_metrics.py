"""Figures carry our prefix and come out in Prometheus' text format."""

from antiphon.core import metrics

_COUNTED = metrics.counter("test_things", "Things of a test", ["kind"])
_TIMED = metrics.histogram("test_work", "Work of a test")
_LEVEL = metrics.gauge("test_level", "A level of a test")


def test_what_was_counted_timed_and_set_is_rendered() -> None:
    _COUNTED.labels("good").inc(2)
    _TIMED.observe(0.02)
    _LEVEL.set(3)
    text = metrics.render().decode()
    assert 'antiphon_test_things_total{kind="good"} 2.0' in text
    assert 'antiphon_test_work_seconds_bucket{le="0.025"} 1.0' in text
    assert "antiphon_test_level 3.0" in text
    assert "process_resident_memory_bytes" in text
