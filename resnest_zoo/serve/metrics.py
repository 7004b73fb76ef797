"""Numbers for monitoring, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from threading import Lock

PREFIX = "resnest_zoo_"
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_HELP = {
    "requests_total": "Answers by route and status.",
    "pictures_total": "Pictures that the model has seen.",
    "batches_total": "Runs of the model.",
    "dropped_total": "Pictures whose client went while they waited.",
    "model_seconds_total": "Seconds that models ran.",
    "queue_pictures": "Pictures that wait or are worked on.",
    "queue_limit": "Pictures that may.",
    "models_ready": "Models that can be used.",
    "predict_seconds": "Seconds from the first byte of a picture to its answer.",
}


class Metrics:
    """Counters that threads may raise."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counters: dict[tuple[str, str], float] = defaultdict(float)
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def add(self, name: str, amount: float = 1, **labels: object) -> None:
        """Raise a counter; the values of labels are ours, never a client's."""
        text = ",".join(f'{key}="{value}"' for key, value in labels.items())
        with self._lock:
            self._counters[name, f"{{{text}}}" if text else ""] += amount

    def get(self, name: str) -> float:
        """The sum of a counter over its labels."""
        with self._lock:
            return sum(value for (known, _), value in self._counters.items() if known == name)

    def observe(self, seconds: float) -> None:
        """Note how long an answer took."""
        place = next((k for k, bound in enumerate(_BUCKETS) if seconds <= bound), len(_BUCKETS))
        with self._lock:
            self._buckets[place] += 1
            self._seconds += seconds

    def text(self, gauges: dict[str, float]) -> str:
        """All of them.

        Args:
            gauges: numbers of this moment, by name.
        """
        with self._lock:
            counters, buckets, seconds = dict(self._counters), list(self._buckets), self._seconds
        lines: list[str] = []
        for name in dict.fromkeys(name for name, _ in counters):
            lines += _head(name, "counter")
            lines += [
                f"{PREFIX}{name}{labels} {value:g}"
                for (known, labels), value in counters.items()
                if known == name
            ]
        for name, value in gauges.items():
            lines += [*_head(name, "gauge"), f"{PREFIX}{name} {value:g}"]
        lines += _head("predict_seconds", "histogram")
        total = 0
        for bound, count in zip((*_BUCKETS, "+Inf"), buckets, strict=True):
            total += count
            lines.append(f'{PREFIX}predict_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"{PREFIX}predict_seconds_sum {seconds:g}", f"{PREFIX}predict_seconds_count {total}"]
        if (resident := resident_bytes()) is not None:
            lines += [
                "# TYPE process_resident_memory_bytes gauge",
                f"process_resident_memory_bytes {resident}",
            ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {_HELP[name]}", f"# TYPE {PREFIX}{name} {kind}"]


def resident_bytes(process: str = "self") -> int | None:
    """Memory of a process that is resident; None where the system does not say."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024
    return None
