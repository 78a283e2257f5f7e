"""What the processes of a distributed run agree on; alone, a process agrees with itself."""

from typing import TypeVar

import torch.distributed as group

Value = TypeVar("Value")


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not group.is_initialized() or group.get_rank() == 0


def from_first(value: Value) -> Value:
    """What the first process has for the value."""
    if not group.is_initialized():
        return value
    shared = [value]
    group.broadcast_object_list(shared)
    return shared[0]


def wait_for_all() -> None:
    """Wait until every process is here."""
    if group.is_initialized():
        group.barrier()
