"""Results of simulations, kept by what they depend on: a sample that was simulated once is read the next time.

What a simulation depends on is all that is handed to it: the chain with its laws, masses and lifetimes, beams, detector,
cuts, observable, bins, variations, number of events, seed and stream; and with what it was made: versions, the code of
this package, the processor. The name of a file is a digest of all that, so that nothing is ever out of date: what has
changed has another name.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import UserError
from modelbuilder.spec.base import SpecModel

Arrays = dict[str, npt.NDArray[np.float64]]

_TAG = "CACHEDIR.TAG"
_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Simulations of modelbuilder; may be removed at any time.\n"
_STAGES = ("theory", "spec", "kinematics", "histograms")
"""Parts of the package that make a sample from its inputs."""
_TEMPORARY, _ABANDONED = ".tmp", 86_400.0  # seconds after which a file that was never moved into place is removed
_IN_WORDS = frozenset({"source", "title", "why", "description"})
"""Fields of a spec that no number depends on."""


@dataclass(frozen=True)
class SimulationCache:
    """A folder of results.    made_with: versions and the like that numbers depend on, by name."""

    folder: Path
    made_with: Mapping[str, str]

    def recall(self, inputs: object) -> Arrays | None:
        """What was kept for these inputs; None if nothing, or nothing that can be read."""
        try:
            with self._file(inputs).open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def keep(self, inputs: object, arrays: Arrays) -> None:
        """Keep a result. A file is either absent or whole; two processes that write one write the same."""
        path = self._file(inputs)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
        try:
            path.parent.mkdir(exist_ok=True)
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            temporary.replace(path)
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror or error}; name another cache, or none"
            raise UserError(msg) from None

    def arrays(self, inputs: object, make: Callable[[], Arrays]) -> Arrays:
        """What was kept, or else what is made now."""
        found = self.recall(inputs)
        if found is None:
            found = make()
            self.keep(inputs, found)
        return found

    def _file(self, inputs: object) -> Path:
        key = digest_of_inputs((self.made_with, inputs))
        return self.folder / key[:2] / f"{key[2:]}.npz"


def open_cache(folder: Path, versions: Mapping[str, str]) -> SimulationCache:
    """The cache in a folder, which is made if it is not there. Raises UserError where the folder holds something else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _TAG).is_file():
            others = sorted(path.name for path in folder.iterdir())
            if others:
                msg = f"{folder}: holds {others[0]} but no {_TAG}; it is not a cache, choose another folder"
                raise UserError(msg)
            (folder / _TAG).write_text(_TAG_TEXT, encoding="utf-8")
        for leftover in folder.glob(f"??/.*{_TEMPORARY}"):  # of a killed process, unless it is at work
            if time.time() - leftover.stat().st_mtime > _ABANDONED:
                leftover.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot be used as a cache: {error.strerror or error}; choose another folder"
        raise UserError(msg) from None
    return SimulationCache(folder.absolute(), made_with(versions))


def made_with(versions: Mapping[str, str]) -> dict[str, str]:
    """Versions, and what else the last bits of a simulation depend on."""
    from numba.core.registry import cpu_target

    return {
        **versions,
        "python": platform.python_version(),
        "library": " ".join(platform.libc_ver()),
        "processor": " ".join(cpu_target.target_context.codegen().magic_tuple()),  # that kernels are compiled for
        "code": _code(),
    }


def _code() -> str:
    """A digest of the files that make a sample from its inputs: two builds can have one version."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for stage in _STAGES:
        for path in sorted((package / stage).rglob("*")):
            if path.suffix in (".py", ".csv"):
                found.update(f"{path.relative_to(package).as_posix()}\0".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def digest_of_inputs(inputs: object) -> str:
    """SHA-256 of nested tuples, mappings, arrays, dataclasses and parts of a spec; the same in every process.

    Raises TypeError for anything else: an input must not be passed over.
    """
    found = hashlib.sha256()
    for part in _parts(inputs):
        found.update(part)
    return found.hexdigest()


def _parts(value: object) -> Iterator[bytes]:
    """Bytes that tell any two inputs apart: each part begins with its kind and its length."""
    if isinstance(value, np.ndarray):
        yield f"array {value.dtype.str} {value.shape}\n".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, float):
        yield f"float {float(value).hex()}\n".encode()
    elif value is None or isinstance(value, bool | int | np.integer):
        yield f"plain {value}\n".encode()
    elif isinstance(value, str):
        text = value.encode()
        yield f"text {len(text)}\n".encode()
        yield text
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}\n".encode()
        for key, item in value.items():
            yield from _parts(key)
            yield from _parts(item)
    elif isinstance(value, tuple | list):
        yield f"list {len(value)}\n".encode()
        for item in value:
            yield from _parts(item)
    else:
        names = _names_of(value)
        yield f"object {type(value).__module__}.{type(value).__qualname__} {len(names)}\n".encode()
        for name in names:
            yield from _parts(name)
            yield from _parts(getattr(value, name))


def _names_of(value: object) -> list[str]:
    """What an object is made of."""
    if isinstance(value, SpecModel):
        return [name for name in type(value).model_fields if name not in _IN_WORDS]
    if is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in fields(value) if field.init]
    msg = f"{type(value).__qualname__}: not an input of a simulation"
    raise TypeError(msg)
