"""Archives whose bytes depend on their content alone: fixed order, times, owners and compression."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path

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
