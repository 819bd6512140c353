"""Archives from outside, unpacked as untrusted input: likelihoods as HEPData and others publish them.

An archive is refused as a whole, with one message, for anything that a likelihood does not need: absolute paths, `..`, links,
devices, names that differ in case only, and more files or bytes than there is use for. Sizes are counted as they are
written, whatever the archive says about them.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NoReturn

from modelbuilder.errors import ArchiveError, InputFileError, WorkspaceError
from modelbuilder.publish.archive import new_folder
from modelbuilder.scan.likelihood_files import LikelihoodFiles, find_likelihoods

MEGABYTE = 1_000_000
_CHUNK = 1 << 16
_MAX_READ = 1 << 20  # what one header of a tar archive may take
_NAME = re.compile(r"[^\x00-\x1f\x7f\\:*?\"<>|]+")
_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar", ".zip")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
)
"""What the libraries raise for an archive that is damaged, encrypted, or compressed in an unknown way."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold, with the archives in it. A bundle of 9000 regions has 18000 files and 30 MB.

    ratio: of unpacked to packed bytes, once there are more than `ratio_from` of them.
    """

    archive_bytes: int = 1000 * MEGABYTE
    files: int = 100_000
    file_bytes: int = 500 * MEGABYTE
    total_bytes: int = 2000 * MEGABYTE
    ratio: float = 200.0
    ratio_from: int = 50 * MEGABYTE
    depth: int = 12
    name_length: int = 200


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What was found. `archives` were within the archive, and are unpacked beside themselves.

    problem: why the list of likelihoods may not be complete.
    """

    path: Path
    files: int
    archives: tuple[str, ...]
    likelihoods: tuple[LikelihoodFiles, ...]
    problem: str | None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "path": str(self.path),
            "files": self.files,
            "archives": list(self.archives),
            "likelihoods": [found.as_dict() for found in self.likelihoods],
            "problem": self.problem,
        }


def unpack(archive: Path, output: Path, limits: Limits | None = None) -> Unpacked:
    """Unpack an archive (zip, or tar plain or compressed) into a directory that does not exist yet, or is empty.

    Archives within it are unpacked too, one level deep. Raises ArchiveError for an archive that is not safe or not
    readable, and InputFileError for JSON in it that is not; nothing is left behind then.
    """
    limits = limits or Limits()
    if not archive.is_file():
        msg = f"{archive}: no such file" if not archive.exists() else f"{archive}: not a file"
        raise InputFileError(msg)
    with new_folder(output) as content:
        budget, scratch = _Budget(limits), content.with_name(f"{content.name}.scratch")
        _extract(archive, content, budget, archive.name, scratch)
        inner = [path for path in sorted(content.rglob("*")) if path.name.lower().endswith(_ARCHIVE_SUFFIXES)]
        for path in inner:
            name = f"{archive.name}: {path.relative_to(content).as_posix()}"
            folder = path.with_name(_stem(path.name))
            if folder.exists():
                _refuse(name, f"would be unpacked into {folder.name}, which is in the archive too")
            folder.mkdir()
            _extract(path, folder, budget, name, scratch)
        likelihoods, problem = _likelihoods_in(content, archive.name)
    return Unpacked(
        path=output,
        files=budget.files,
        archives=tuple(path.relative_to(content).as_posix() for path in inner),
        likelihoods=tuple(replace(found, folder=output / found.folder.relative_to(content)) for found in likelihoods),
        problem=problem,
    )


def _likelihoods_in(content: Path, where: str) -> tuple[list[LikelihoodFiles], str | None]:
    """The likelihoods; and what is wrong with them, if it is not the reading."""
    found: list[LikelihoodFiles] = []
    try:
        found.extend(find_likelihoods(content))  # keeps those before the one that is wrong
    except InputFileError as error:
        msg = str(error).replace(f"{content}/", f"{where}: ", 1)
        raise InputFileError(msg) from None
    except WorkspaceError as error:
        return found, str(error).replace(f"{content}/", "", 1)
    return found, None


def _stem(name: str) -> str:
    suffix = next(suffix for suffix in _ARCHIVE_SUFFIXES if name.lower().endswith(suffix))
    return name[: -len(suffix)] or "archive"


@dataclass
class _Budget:
    """What has been unpacked so far, of all archives together."""

    limits: Limits
    files: int = 0
    total: int = 0
    packed: int = 0
    unpacked: int = 0

    def count_file(self, where: str) -> None:
        self.files += 1
        if self.files > self.limits.files:
            _refuse(where, f"holds more than {self.limits.files} files")

    def count(self, number: int, where: str) -> None:
        self.total += number
        if self.total > self.limits.total_bytes:
            _refuse(where, f"unpacks to more than {self.limits.total_bytes / MEGABYTE:g} MB")


@dataclass
class _Names:
    """The names of one archive, to find those that a file system may take for the same."""

    limits: Limits
    where: str
    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    def parts_of(self, name: str, *, is_folder: bool) -> tuple[str, ...]:
        """The parts of a member's name. Raises ArchiveError for a name that is not safe everywhere."""
        shown = _shown(name)
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name):
            _refuse(self.where, f"{shown} is an absolute path")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            _refuse(self.where, f"{shown} leads out of the archive by '..'")
        if not parts:
            if is_folder:
                return ()
            _refuse(self.where, f"{shown} is no name of a file")
        if len(parts) > self.limits.depth:
            _refuse(self.where, f"{shown} is nested more than {self.limits.depth} folders deep")
        for part in parts:
            if len(part.encode("utf-8", "surrogateescape")) > self.limits.name_length:
                _refuse(self.where, f"{shown} has a name of more than {self.limits.name_length} bytes")
            usable = _NAME.fullmatch(part) and not part.endswith((" ", ".")) and _is_text(part)
            if not usable or part.partition(".")[0].lower() in _RESERVED:
                _refuse(self.where, f"{shown} is a name that not every system can write")
        self._remember(parts, is_folder=is_folder)
        return parts

    def _remember(self, parts: tuple[str, ...], *, is_folder: bool) -> None:
        for length in range(1, len(parts) + 1):
            path = "/".join(parts[:length])
            key = unicodedata.normalize("NFKC", path).casefold()
            below = length < len(parts) or is_folder
            same, other = (self.folders, self.files) if below else (self.files, self.folders)
            if key in other:
                _refuse(self.where, f"{_shown(path)} is a file and a folder")
            if key in same and (not below or same[key] != path):
                what = "is there twice" if same[key] == path else f"differs from {_shown(same[key])} in case only"
                _refuse(self.where, f"{_shown(path)} {what}")
            same[key] = path


def _is_text(part: str) -> bool:
    try:
        part.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:77]}...'"


def _refuse(where: str, what: str) -> NoReturn:
    msg = f"{where}: {what}; it is not unpacked"
    raise ArchiveError(msg)


def _extract(archive: Path, folder: Path, budget: _Budget, where: str, scratch: Path) -> None:
    """Unpack one archive into a folder that is empty."""
    size = archive.stat().st_size
    if size > budget.limits.archive_bytes:
        _refuse(where, f"has more than {budget.limits.archive_bytes / MEGABYTE:g} MB")
    budget.packed, budget.unpacked = size, 0
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder, budget, where)
        else:
            _extract_tar(archive, folder, budget, where, scratch)
    except (ArchiveError, InputFileError):
        raise
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            msg = f"{where}: cannot be unpacked: {error.strerror}"
            raise ArchiveError(msg) from None
        _refuse(where, f"cannot be read: {str(error) or type(error).__name__}")


def _count_unpacked(number: int, budget: _Budget, where: str) -> None:
    """Bytes that an archive has become; a bomb becomes many out of few."""
    budget.unpacked += number
    limits = budget.limits
    if budget.unpacked > limits.ratio_from and budget.unpacked > limits.ratio * budget.packed:
        _refuse(where, f"unpacks to more than {limits.ratio:g} times its size, as a decompression bomb does")


def _copy(source: IO[bytes], target: Path, size: int, budget: _Budget, where: str) -> None:
    """Copy a file that is said to have that size."""
    if size > budget.limits.file_bytes:
        _refuse(where, f"{_shown(target.name)} has more than {budget.limits.file_bytes / MEGABYTE:g} MB")
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("xb") as stream:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > size:
                _refuse(where, f"{_shown(target.name)} is longer than the archive says")
            budget.count(len(chunk), where)
            stream.write(chunk)
    if written != size:
        _refuse(where, f"{_shown(target.name)} is shorter than the archive says")


def _extract_zip(archive: Path, folder: Path, budget: _Budget, where: str) -> None:
    names = _Names(budget.limits, where)
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            budget.count_file(where)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(where, f"{_shown(member.filename)} is {_KINDS.get(kind, 'no plain file')}")
            if member.flag_bits & 0x1:
                _refuse(where, f"{_shown(member.filename)} is encrypted")
            is_folder = member.is_dir() or kind == stat.S_IFDIR
            parts = names.parts_of(member.orig_filename, is_folder=is_folder)
            target = folder.joinpath(*parts)
            if is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            _count_unpacked(member.file_size, budget, where)
            with opened.open(member) as source:
                _copy(source, target, member.file_size, budget, where)


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def _extract_tar(archive: Path, folder: Path, budget: _Budget, where: str, scratch: Path) -> None:
    names, found = _Names(budget.limits, where), 0
    with _plain_tar(archive, budget, where, scratch) as plain, tarfile.open(fileobj=plain, mode="r:") as opened:
        while (member := opened.next()) is not None:
            opened.members = []  # type: ignore[attr-defined]  # which would keep them all
            found += 1
            budget.count_file(where)
            if member.issym() or member.islnk():
                _refuse(where, f"{_shown(member.name)} is a link")
            if not (member.isreg() or member.isdir()) or member.issparse():
                _refuse(where, f"{_shown(member.name)} is no plain file, but a device, a pipe or something else")
            target = folder.joinpath(*names.parts_of(member.name, is_folder=member.isdir()))
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            source = opened.extractfile(member)
            assert source is not None
            with source:
                _copy(source, target, member.size, budget, where)
        plain.seek(opened.offset)  # tarfile takes a damaged header for the end
        while rest := plain.read(_CHUNK):
            if any(rest):
                _refuse(where, "is damaged: there is something after its end, or a header that is none")
    if not found:
        _refuse(where, "is empty, or not an archive (zip, or tar plain or compressed)")


class _Careful:
    """A file that is not read in large pieces: headers of a tar archive can ask for any size."""

    def __init__(self, stream: IO[bytes], where: str) -> None:
        self._stream, self._where = stream, where

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            _refuse(self._where, "has a header that is too long")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def _plain_tar(archive: Path, budget: _Budget, where: str, scratch: Path) -> Iterator[Any]:
    """The tar archive without its compression, in a file of which no more is written than is allowed."""
    with archive.open("rb") as stream:
        head = stream.read(6)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
    opener = next((found for magic, found in openers.items() if head.startswith(magic)), None)
    if opener is None:
        with archive.open("rb") as stream:
            yield _Careful(stream, where)
        return
    try:
        with opener(archive, "rb") as packed, scratch.open("xb") as plain:
            while chunk := packed.read(_CHUNK):
                _count_unpacked(len(chunk), budget, where)
                if budget.unpacked > 2 * budget.limits.total_bytes:  # with room for the headers
                    _refuse(where, f"unpacks to more than {budget.limits.total_bytes / MEGABYTE:g} MB")
                plain.write(chunk)
        with scratch.open("rb") as stream:
            yield _Careful(stream, where)
    finally:
        scratch.unlink(missing_ok=True)
