"""What the service counts, in the text form that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from .base import Executor

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Requests by path and status, and how long they took."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0
        self._count = 0

    def see(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests[(path if status not in (404, 405) else "other", status)] += 1
        if status == 200:
            self._count += 1
            self._seconds += seconds
            self._buckets[next((edge for edge in BUCKETS if seconds <= edge), float("inf"))] += 1

    def render(self, executor: Executor, queued: int, capacity: int) -> str:
        """All counts."""
        stats = executor.stats()
        found = executor.isolation
        level = f'level="{found.level}",seccomp="{str(found.seccomp).lower()}",cgroup="{found.cgroup}"'
        lines = [
            *_family(
                "programs_total", "counter", "Programs by verdict.", _labelled("verdict", stats.verdicts)
            ),
            *_family(
                "infra_errors_total", "counter", "Orders that could not be run.", [("", stats.infra_errors)]
            ),
            *_family("retries_total", "counter", "Tries beyond the first.", [("", stats.retried)]),
            *_family("cancelled_total", "counter", "Orders whose client left.", [("", stats.cancelled)]),
            *_family("queue_length", "gauge", "Programs accepted and unfinished.", [("", queued)]),
            *_family("queue_capacity", "gauge", "The most of them.", [("", capacity)]),
            *_family("workers", "gauge", "Programs that run at a time.", [("", executor.workers)]),
            *_family("isolation_info", "gauge", "What is in force.", [(f"{{{level}}}", 1)]),
            *_family("requests_total", "counter", "Requests.", self._by_request()),
            *_family("request_seconds", "histogram", "Time to answer, of those answered.", []),
            *self._histogram(),
        ]
        return "\n".join(lines) + "\n"

    def _by_request(self) -> Iterable[tuple[str, int]]:
        for (path, status), count in sorted(self._requests.items()):
            yield f'{{path="{path}",status="{status}"}}', count

    def _histogram(self) -> Iterable[str]:
        total = 0
        for edge in BUCKETS:
            total += self._buckets[edge]
            yield f'codealign_request_seconds_bucket{{le="{edge:g}"}} {total}'
        yield f'codealign_request_seconds_bucket{{le="+Inf"}} {self._count}'
        yield f"codealign_request_seconds_sum {self._seconds:.6f}"
        yield f"codealign_request_seconds_count {self._count}"


def _labelled(label: str, counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(f'{{{label}="{name}"}}', count) for name, count in sorted(counts.items())]


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    head = [f"# HELP codealign_{name} {text}", f"# TYPE codealign_{name} {kind}"]
    return [*head, *(f"codealign_{name}{labels} {value}" for labels, value in samples)]
