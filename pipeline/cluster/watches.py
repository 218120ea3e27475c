"""Watches: they wake the supervisor when an object of a run changes."""

from __future__ import annotations

import random
import threading

from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.backends import registry
from pipeline.cluster.render import RUN_LABEL
from preprocessing.errors import PermanentError, RetryError


class Changes:
    """Watches of all objects that belong to runs; they report only that something changed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._changed = threading.Event()
        self._stopped = threading.Event()
        for kind in ("Pod", *registry.kinds(), "ConfigMap"):
            threading.Thread(target=self._watch, args=(kind,), daemon=True).start()

    def clear(self) -> None:
        """Forget past changes; whatever is read afterwards includes them."""
        self._changed.clear()

    def wait(self, timeout_seconds: float) -> None:
        """Wait until something changes or the time is over."""
        self._changed.wait(timeout_seconds)

    def stop(self) -> None:
        """End all watches."""
        self._stopped.set()

    def _watch(self, kind: str) -> None:
        while not self._stopped.is_set():
            try:
                for _ in self._gateway.watch(kind, RUN_LABEL, self._stopped):
                    self._changed.set()
            except RetryError:  # the supervisor meets the same error and reports it
                pass
            except PermanentError:  # the cluster lacks this kind, or forbids watching it
                return
            self._stopped.wait(random.uniform(1, 3))
