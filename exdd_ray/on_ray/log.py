"""What Ray's workers log while they train, logged in this process as it comes."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.exceptions import RayError
from ray.util.queue import Full, Queue

LOGGER = "exdd_ray.training"
_PATIENCE = 10.0  # seconds for the last lines


@contextmanager
def workers_log() -> Iterator[Queue]:
    """A queue for `told_to` in workers; what comes is logged here, until the end."""
    queue = Queue(actor_options={"num_cpus": 0})
    listener = threading.Thread(target=_listen, args=(queue,), daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        with suppress(RayError, Full):  # the log is lost, and what was done is not
            queue.put(None, timeout=_PATIENCE)
            listener.join(_PATIENCE)
        queue.shutdown(force=True)


@contextmanager
def told_to(queue: Queue, prefix: str = "", level: int = logging.INFO) -> Iterator[None]:
    """In a worker: what training logs from a level on goes to the queue, each line after a prefix."""
    logger, handler = logging.getLogger(LOGGER), _Sender(queue, prefix, level)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.flush()


class _Sender(logging.Handler):
    """Puts lines into a queue, and does not wait for it: Ray gives the CPUs of a task that waits to another one."""

    def __init__(self, queue: Queue, prefix: str, level: int) -> None:
        super().__init__(level)
        self._queue, self._prefix = queue, prefix
        self._last: ray.ObjectRef | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._last = self._queue.actor.put.remote((record.levelno, f"{self._prefix}{record.getMessage()}"))

    def flush(self) -> None:
        if self._last is not None:  # where nobody listens any more, it is an error that nobody reads
            ray.wait([self._last], timeout=_PATIENCE)


def _listen(queue: Queue) -> None:
    """Log what comes until None does."""
    try:
        while (line := queue.get()) is not None:
            logging.getLogger(LOGGER).log(*line)
    except RayError:
        logging.getLogger(LOGGER).warning("the workers' log is lost: its actor has died")
