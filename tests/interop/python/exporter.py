"""Serves a page of every kind of metric that Python's prometheus_client has.

Prints one JSON line when it listens, and ends when stdin closes.
"""

import json
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import (
    CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, make_wsgi_app,
)
from prometheus_client.core import (
    GaugeHistogramMetricFamily, StateSetMetricFamily, UnknownMetricFamily,
)

VALUES = ["", "plain", 'quote " quote', "back\\slash", "line\nfeed", "a,b={}#", "}", " blank ", "é€🦀"]


class Custom:
    """What has no class of its own."""

    def collect(self):
        family = GaugeHistogramMetricFamily("python_queue_bytes", "Sizes now.")
        family.add_metric([], buckets=[("1.0", 4), ("+Inf", 6)], gsum_value=9.5)
        yield family
        family = StateSetMetricFamily("python_flags", "Several at once.", labels=["host"])
        family.add_metric(["a"], {"up": True, "degraded": True, "down": False})
        yield family
        family = UnknownMetricFamily("python_unknown", "Of no type.", labels=["x"])
        family.add_metric(["y"], 1.5, timestamp=1395066363.125)
        yield family


def registry():
    registry = CollectorRegistry()
    registry.register(Custom())
    counter = Counter("python_requests", "Requests, \"quoted\" \\ and\nover two lines.", ["path"], registry=registry)
    for number, value in enumerate(VALUES):
        counter.labels(value).inc(number + 0.25)
    counter.labels("exemplar").inc(7, {"trace_id": "ab cd"})
    gauge = Gauge("python_level", "Any number.", ["of"], unit="ratio", registry=registry)
    for name, value in [("nan", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("third", 1 / 3), ("e300", 1e300), ("-0", -0.0)]:
        gauge.labels(name).set(float(value))
    histogram = Histogram("python_took_seconds", "Time.", ["method"], registry=registry)
    summary = Summary("python_size_bytes", "Sizes.", registry=registry)
    for took in [0.0001, 0.004, 0.5, 100]:
        histogram.labels("get").observe(took, {"trace_id": "1234"})
        summary.observe(took)
    Info("python_build", "The build.", registry=registry).info({"version": "1.2.3"})
    Enum("python_state", "One at a time.", states=["starting", "running"], registry=registry).state("running")
    return registry


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def main():
    server = make_server("127.0.0.1", 0, make_wsgi_app(registry()), handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"ready": True, "address": f"127.0.0.1:{server.server_port}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
