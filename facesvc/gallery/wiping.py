"""What is left in memory of somebody who was erased.

The index overwrites the rows of the erased (``index.memory``), and nothing else holds on to them. But CPython, numpy
and the C library leave memory that they have freed as it is until it is used again, so that parts of vectors, names
and crops may be read from a dump of the process for a while. Strings cannot be overwritten in Python. What can be done
is done outside: ``ENVIRONMENT``, set before Python starts, makes the C library overwrite what it frees, at some cost
(measured: a search 15 %, an enrolment 25 %, making objects of Python twice the time). Beyond that numpy keeps small
arrays for itself: ``overwrite_freed_arrays``.

No promise covers the stacks and registers of threads, what the network and the models hold on to (gRPC, ONNX Runtime),
and what the kernel keeps: swap, and sockets.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "PYTHONMALLOC": "malloc",
        "GLIBC_TUNABLES": "glibc.malloc.perturb=90:glibc.malloc.tcache_count=0",
    }
)
"""Python keeps no memory for itself; glibc overwrites what is freed, and keeps no list that it does not."""

# numpy/_core/src/multiarray/alloc.c: NCACHE freed blocks of each size below NBUCKETS bytes are kept for the next array.
_KEPT = 7
_SIZES = range(1, 1024)


def overwrite_freed_arrays() -> None:
    """Overwrites the small arrays that numpy has freed and kept. Takes 2 ms."""
    for size in _SIZES:
        _ = [np.zeros(size, np.uint8) for _ in range(_KEPT)]
