"""Progress of long work as log lines with a rate and the time left.

The lines go to the logger `aanet`: Dagster shows them in the run's own log, the command line in
its progress display.
"""

import logging
import threading
import time

log = logging.getLogger("aanet")


class Progress:
    """Counts units of work, from any thread, and logs at most every `interval` seconds."""

    def __init__(self, total: int, unit: str, what: str, interval: float = 5.0):
        self.total, self.unit, self.what, self.interval = total, unit, what, interval
        self.done = 0
        self._started = self._logged = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""
        now = time.monotonic()
        with self._lock:
            self.done += amount
            if now - self._logged < self.interval:
                return
            self._logged = now
        rate = self.done / (now - self._started)
        left = max(self.total - self.done, 0) / rate
        log.info(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, "
            f"{rate:,.0f} {self.unit}/s, {left:,.0f} s left"
        )
