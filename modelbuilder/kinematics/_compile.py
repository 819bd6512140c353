"""How kernels are compiled: once, cached on disk, and again whenever any kernel file has changed.

numba's own cache looks at the file of a function only, and goes on using code that was compiled with the old version of
a function from another file. Here the cache carries the digest of all kernel files: `_*.py` here and in `inference`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_FOLDERS = ("kinematics", "inference")
# No `reassoc`, `arcp` or `afn`: a sum has one order and a quotient x/x is 1, whatever the width of the vectors.
# No `contract`: which products LLVM fuses with a sum depends on what a kernel is inlined into, and so on the order in
# which kernels were compiled: the first process, which compiles, and the second differed in last bits. It gains nothing
# that can be measured.
# No `nnan`, `ninf`: a NaN stays one.
_FLAGS = {"nsz"}


def kernel(function: Kernel) -> Kernel:
    """A stage on blocks or arrays: releases the interpreter lock; 1/0 is inf, not an exception."""
    return cast(Kernel, _cached(numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS)(function)))


def inner(function: Kernel) -> Kernel:
    """A stage that only other kernels call: without the door from Python, which takes long to compile."""
    doors: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # which numba's types leave out
    return cast(Kernel, _cached(numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS, **doors)(function)))


def inlined(function: Kernel) -> Kernel:
    """A scalar helper of the stages: always inlined, since a call would stop the vectorisation of the loop."""
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS, forceinline=True)(function)
    return cast(Kernel, _cached(compiled))


class _SafeCache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=sources_digest()
        )


@functools.cache
def sources_digest() -> str:
    """SHA-256 of all kernel files, in the order of their names."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in (path for folder in _FOLDERS for path in sorted((package / folder).glob("_*.py"))):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _cached(dispatcher: Any) -> Any:
    dispatcher._cache = _SafeCache(dispatcher.py_func)  # what enable_caching() does, with our cache
    return dispatcher
