"""Numeric arrays as Arrow IPC files: one record batch, read back memory-mapped without a copy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from exdd_ray.errors import ArtifactError


def write_arrays(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write arrays of one length [N x ...] as fixed-size-list columns; trailing dimensions go to the field metadata."""
    fields, arrays = [], []
    for name, values in columns.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        array = flat
        if values.ndim > 1:
            array = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
        shape = ",".join(map(str, values.shape[1:]))
        fields.append(pa.field(name, array.type, nullable=False, metadata={"shape": shape}))
        arrays.append(array)
    schema = pa.schema(fields)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read-only arrays [N x ...] that share the memory-mapped file. Raises ArtifactError for any other file."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            batch = reader.get_batch(0)
    except (pa.ArrowInvalid, OSError, IndexError) as error:
        raise ArtifactError(f"{path}: not a readable Arrow file ({error})") from error
    return {field.name: _as_numpy(batch.column(i), field) for i, field in enumerate(batch.schema)}


def _as_numpy(column: pa.Array, field: pa.Field) -> np.ndarray:
    shape = (field.metadata or {}).get(b"shape", b"").decode()
    trailing = tuple(int(n) for n in shape.split(",") if n)
    values = column.flatten() if trailing else column
    array: np.ndarray = values.to_numpy(zero_copy_only=True)
    return array.reshape(len(column), *trailing)
