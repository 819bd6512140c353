"""Archives whose bytes depend on their content alone: fixed order, times, owners and compression; and their folders."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from modelbuilder.errors import UserError

_LEVEL = 9


def write_tar_gz(path: Path, files: Mapping[str, Path]) -> None:
    """A gzipped tar archive of these files, by their names within it; made twice, the bytes are the same."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=_LEVEL) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            with files[name].open("rb") as content:
                member = tarfile.TarInfo(name)
                member.size = files[name].stat().st_size
                member.mode = 0o644
                archive.addfile(member, content)


def files_below(folder: Path) -> dict[str, Path]:
    """Every file in a folder, by its name relative to it."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A temporary directory that becomes `output` if all goes well, and vanishes if not. Raises UserError if `output` is in use."""
    if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(output.iterdir()))):
        msg = f"{output}: exists and is not an empty directory; choose another one, or remove it"
        raise UserError(msg)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        msg = f"{output}: cannot be written: {error.strerror or error}; choose another place"
        raise UserError(msg) from None
    try:
        yield temporary
        if output.is_dir():
            output.rmdir()
        temporary.rename(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
