"""The one place where pyhf's global state is touched."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_one_at_a_time = threading.RLock()


@contextmanager
def numpy_backend() -> Iterator[None]:
    """Run with pyhf's numpy backend in double precision, and leave pyhf as it was found, optimiser included.

    One thread at a time: what one finds, another may have set.
    """
    with _one_at_a_time:
        yield from _with_numpy()


def _with_numpy() -> Iterator[None]:
    import pyhf

    current, default = pyhf.get_backend(), pyhf.get_backend(default=True)
    for backend in (current[0], default[0]):
        if backend.name != "numpy" or backend.precision != "64b":
            pyhf.set_backend("numpy", precision="64b", default=True)
            break
    try:
        yield
    finally:
        if pyhf.get_backend(default=True) != default:
            pyhf.set_backend(*default, default=True)
        if pyhf.get_backend() != current:
            pyhf.set_backend(*current)
