"""How calls end, counted for the metrics."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Calls:
    """Calls that have ended, by what they were and how they ended; read through ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter("facesvc_calls", "Calls that have ended.", ("method", "code"), registry=registry)
        self._refused = Counter(
            "facesvc_refusals", "Calls that were refused, by the reason told.", ("reason",), registry=registry
        )
        self._took = Histogram(
            "facesvc_call_duration_seconds",
            "How long calls took that answer once.",
            ("method",),
            buckets=_BUCKETS_S,
            registry=registry,
        )

    def ended(self, method: str, code: str, reason: str = "") -> None:
        """One has: ``code`` as gRPC names it, ``reason`` of the error."""
        self._ended.labels(method.rpartition("/")[2], code).inc()
        if reason:
            self._refused.labels(reason).inc()

    def took(self, method: str, seconds: float) -> None:
        """One that answers once took so long."""
        self._took.labels(method.rpartition("/")[2]).observe(seconds)
