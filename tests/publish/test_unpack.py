"""Archives that nobody should unpack, and those of others that one should."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyhf
import pytest

from modelbuilder.errors import ArchiveError, InputFileError, UserError, WorkspaceError
from modelbuilder.inference.choice import LimitRequest
from modelbuilder.publish.unpack import Limits, unpack
from modelbuilder.scan.likelihood_files import find_likelihoods
from modelbuilder.scan.target import confidence_level_of, limits_at, targets_at

from .conftest import SHARED, window

SMALL = Limits(files=20, file_bytes=200_000, total_bytes=300_000, ratio=50.0, ratio_from=100_000)


def tar_of(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w:gz") -> Path:
    """An archive of files by name and content, or of members as they are."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_entry(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def refused(path: Path, folder: Path, match: str, limits: Limits = SMALL) -> None:
    """The archive is refused in one line, and nothing is left, within the folder or outside."""
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(UserError, match=match) as error:
        unpack(path, folder / "new", limits)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith((path.name, str(path)))
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


NAMES = {
    "/etc/passwd": "absolute path",
    "C:/windows": "absolute path",
    "\\\\server\\share": "absolute path",
    "../up.json": r"leads out of the archive by '\.\.'",
    "a/../../up.json": r"leads out of the archive by '\.\.'",
    "a\\..\\..\\up.json": "not every system can write",
    "a/b\x07c": "not every system can write",
    "a/trailing. ": "not every system can write",
    "a/NUL.json": "not every system can write",
    "a:stream": "not every system can write",
    "x" * 300: "more than 200 bytes",
    "/".join("a" * 30): "nested more than 12 folders deep",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_elsewhere(name: str, kind: str, tmp_path: Path) -> None:
    """Catches a file written outside the directory, on any system."""
    make = tar_of if kind == "tar" else zip_of
    path = make(tmp_path / f"x.{kind}", ("good.json", b"{}"), (name, b"bad"))
    refused(path, tmp_path, NAMES[name])


@pytest.mark.parametrize(
    ("member", "match"),
    [
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' is a link"),
        (special("link", tarfile.LNKTYPE, "good.json"), "'link' is a link"),
        (special("device", tarfile.CHRTYPE), "'device' is no plain file, but a device"),
        (special("device", tarfile.BLKTYPE), "'device' is no plain file, but a device"),
        (special("pipe", tarfile.FIFOTYPE), "'pipe' is no plain file, but a device, a pipe"),
        (special("sparse", tarfile.GNUTYPE_SPARSE), "cannot be read|no plain file"),
    ],
    ids=["symlink", "hardlink", "character", "block", "pipe", "sparse"],
)
def test_members_that_are_no_files(member: tarfile.TarInfo, match: str, tmp_path: Path) -> None:
    """Catches links, through which the next member would be written anywhere, and devices."""
    refused(tar_of(tmp_path / "x.tar", ("good.json", b"{}"), member, mode="w"), tmp_path, match)


@pytest.mark.parametrize(
    ("kind", "match"), [(stat.S_IFLNK, "'m' is a link"), (stat.S_IFIFO, "'m' is a pipe"), (stat.S_IFCHR, "is a device")]
)
def test_zip_members_that_are_no_files(kind: int, match: str, tmp_path: Path) -> None:
    """The same for zip, which keeps the kind in its attributes."""
    refused(zip_of(tmp_path / "x.zip", ("good.json", b"{}"), (zip_entry("m", kind), b"/etc/passwd")), tmp_path, match)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("a.json", "a.json"), "'a.json' is there twice"),
        (("a.json", "./a.json"), "'a.json' is there twice"),
        (("BkgOnly.json", "bkgonly.json"), "'bkgonly.json' differs from 'BkgOnly.json' in case only"),
        (("A/x.json", "a/y.json"), "'a' differs from 'A' in case only"),
        (("caf\u00e9.json", "cafe\u0301.json"), "differs from 'caf\u00e9.json' in case only"),
        (("a", "a/b.json"), "'a' is a file and a folder"),
        (("a/b.json", "a"), "'a' is a file and a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide(names: tuple[str, str], match: str, tmp_path: Path) -> None:
    """Catches a second file that replaces the first, on this system or on one that does not tell cases apart."""
    members = [(name, b"{}") for name in names]
    refused(tar_of(tmp_path / "x.tgz", *members), tmp_path, match)
    refused(zip_of(tmp_path / "x.zip", *members), tmp_path, match)


def test_bombs_by_number(tmp_path: Path) -> None:
    """Catches an archive of more files than there is use for."""
    members = [(f"{index}.json", b"") for index in range(21)]
    refused(tar_of(tmp_path / "x.tar.gz", *members), tmp_path, "holds more than 20 files")
    refused(zip_of(tmp_path / "x.zip", *members), tmp_path, "holds more than 20 files")


def test_bombs_by_size(tmp_path: Path) -> None:
    """Catches one file, or all together, that fill the disk."""
    noise = os.urandom(150_000)  # which no compression makes a bomb
    refused(tar_of(tmp_path / "x.tar", ("a", os.urandom(200_001)), mode="w"), tmp_path, r"'a' has more than 0\.2 MB")
    refused(zip_of(tmp_path / "x.zip", ("a", os.urandom(200_001))), tmp_path, r"'a' has more than 0\.2 MB")
    three = [(name, noise) for name in "abc"]
    refused(tar_of(tmp_path / "y.tar.gz", *three), tmp_path, r"unpacks to more than 0\.3 MB")
    refused(zip_of(tmp_path / "y.zip", *three), tmp_path, r"unpacks to more than 0\.3 MB")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_bombs_by_ratio(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Catches a small file that becomes a large one, before it has; also one that is no tar archive inside."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(pack(bytes(10_000_000)))
    refused(path, tmp_path, "unpacks to more than 50 times its size, as a decompression bomb does")
    refused(zip_of(tmp_path / "x.zip", ("a", bytes(199_999))), tmp_path, "as a decompression bomb does")


def test_bombs_within_archives(tmp_path: Path) -> None:
    """Catches a budget that starts anew for every archive within an archive, and archives that unpack for ever."""
    inner = tar_of(tmp_path / "inner.tar", ("a", os.urandom(90_000)), mode="w").read_bytes()
    outer = tar_of(tmp_path / "x.tar", ("1.tar", inner), ("2.tar", inner), mode="w")
    refused(outer, tmp_path, r"unpacks to more than 0\.3 MB")
    nested = ("deep.json", b"{}")
    for _ in range(4):
        nested = ("x.tar", tar_of(tmp_path / "level.tar", nested, mode="w").read_bytes())
    found = unpack(tar_of(tmp_path / "y.tar", nested, mode="w"), tmp_path / "out", SMALL)
    assert found.archives == ("x.tar",)
    assert sorted(p.name for p in (tmp_path / "out" / "x").iterdir()) == ["x.tar"]
    both = tar_of(
        tmp_path / "z.tar", ("1.tar", tar_of(tmp_path / "e.tar", ("a", b""), mode="w").read_bytes()), ("1/b", b"")
    )
    refused(both, tmp_path, "would be unpacked into 1, which is in the archive too")


def test_headers_that_ask_for_memory(tmp_path: Path) -> None:
    """Catches a header of a tar archive that makes its reader hold as much as it likes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 50_000_000
    path = tmp_path / "x.tar"
    with path.open("wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(60_000_000)
    refused(path, tmp_path, "has a header that is too long", Limits())


def test_archives_that_lie(tmp_path: Path) -> None:
    """Catches a zip member that is longer than it says, which would pass all limits on sizes."""
    path = zip_of(tmp_path / "x.zip", ("a.json", b"1" * 1000))
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = raw.index(signature) + offset
        assert struct.unpack_from("<I", raw, place) == (1000,)
        struct.pack_into("<I", raw, place, 10)
    path.write_bytes(raw)
    refused(path, tmp_path, r"x\.zip: (cannot be read|'a\.json' is longer)")


@pytest.mark.parametrize("keep", [20, 200, 2000, -9, -200])
def test_archives_that_were_cut_off(keep: int, tmp_path: Path) -> None:
    """Catches half an archive that passes for a whole one."""
    contents = [(f"{name}.json", json.dumps(os.urandom(2000).hex()).encode()) for name in "abc"]
    for path in (tar_of(tmp_path / "x.tar.gz", *contents), zip_of(tmp_path / "x.zip", *contents)):
        path.write_bytes(path.read_bytes()[:keep])
        refused(path, tmp_path, "cannot be read|is damaged|is empty, or not an archive|is shorter")


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    """Catches the second half of a tar archive that is lost in silence, as tarfile does it."""
    path = tar_of(tmp_path / "x.tar", ("a.json", b"{}"), ("b.json", b"{}"), mode="w")
    raw = bytearray(path.read_bytes())
    raw[1024 + 148 : 1024 + 156] = b"0000000\0"  # the checksum of the second header
    path.write_bytes(raw)
    refused(path, tmp_path, "is damaged")


def test_what_is_no_archive(tmp_path: Path) -> None:
    """Catches a traceback for what users will try."""
    (tmp_path / "text.tar.gz").write_text("hello")
    (tmp_path / "empty.zip").write_bytes(b"")
    refused(tmp_path / "text.tar.gz", tmp_path, "cannot be read|not an archive")
    refused(tmp_path / "empty.zip", tmp_path, "not an archive|cannot be read")
    refused(tmp_path / "missing.zip", tmp_path, "no such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", tmp_path, "not a file")


def test_encrypted_zip(tmp_path: Path) -> None:
    """Catches a prompt or a traceback where a password would be needed."""
    path = zip_of(tmp_path / "x.zip", ("a.json", b"{}"))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x03\x04") + 6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    refused(path, tmp_path, "'a.json' is encrypted")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'{"channels": 1, "channels": 2}', "the key 'channels' stands twice"),
        (b'{"a": NaN}', "found NaN"),
        (b'{"a": 1e999}', "found 1e999"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a": ', "not valid JSON"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_json_that_is_not_safe(text: bytes, match: str, tmp_path: Path) -> None:
    """Catches JSON read by another way than the careful one; the message names the file in the archive."""
    path = tar_of(tmp_path / "x.tar", ("SR/BkgOnly.json", text), mode="w")
    refused(path, tmp_path, rf"x\.tar: SR/BkgOnly\.json.*{match}")


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    """Catches files written among others."""
    path = tar_of(tmp_path / "x.tar", ("a.json", b"{}"), mode="w")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("x")
    with pytest.raises(UserError, match="exists and is not an empty directory"):
        unpack(path, tmp_path / "new")
    (tmp_path / "new" / "mine").unlink()
    assert unpack(path, tmp_path / "new").files == 1
    with pytest.raises(UserError, match="cannot be written"):
        unpack(path, tmp_path / "new" / "a.json" / "below")
    (tmp_path / "nowhere").symlink_to(tmp_path / "does not exist")
    with pytest.raises(UserError, match="exists and is not an empty directory"):
        unpack(path, tmp_path / "nowhere")


def patch_of(workspace: Any) -> list[Any]:
    return [{"op": "add", "path": "/channels/0/samples/0", "value": workspace["channels"][0]["samples"][0]}]


def background_of(workspace: Any) -> Any:
    found = json.loads(json.dumps(workspace))
    del found["channels"][0]["samples"][0]
    return found


def patchset_of(background: Any, **patches: Any) -> Any:
    return {
        "version": "1.0.0",
        "metadata": {
            "references": {"hepdata": "ins1234567"},
            "digests": {"sha256": pyhf.utils.digest(background)},
            "labels": ["m"],
            "description": "a stranger's",
        },
        "patches": [
            {"metadata": {"name": name, "values": [index]}, "patch": patch}
            for index, (name, patch) in enumerate(patches.items())
        ],
    }


def observed(path: Path, pattern: str | None = None) -> dict[str, float]:
    request = LimitRequest(method="cls", confidence_level=confidence_level_of(path))
    return {
        found["patch"]: found["observed"] for found in limits_at(targets_at(path, pattern=pattern), request, jobs=1)
    }


def alone(workspace: Any, folder: Path) -> float:
    folder.mkdir(exist_ok=True)
    path = folder / "alone.json"
    path.write_text(json.dumps(workspace))
    (found,) = limits_at(targets_at(path), LimitRequest(method="cls", confidence_level=0.95), jobs=1)
    return float(found["observed"])


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_likelihoods_of_a_stranger(kind: str, tmp_path: Path) -> None:
    """Limits of the three ways in which likelihoods lie at HEPData, against those of the workspaces alone.

    Patchsets in folders of regions, single patches beside a background as in early records, and a whole workspace.
    """
    other = window([0.5, 3.0, 0.5], [6.0, 7.0, 8.0], [7, 7, 7])
    files = {
        "RegionA/BkgOnly.json": background_of(SHARED[0]),
        "RegionA/patchset.json": patchset_of(background_of(SHARED[0]), x=patch_of(SHARED[0]), y=patch_of(SHARED[1])),
        "RegionB/BkgOnly.json": background_of(other),
        "RegionB/patchset.json": patchset_of(background_of(other), x=patch_of(other)),
        "early/BkgOnly.json": background_of(SHARED[0]),
        "early/patch.m_1.json": patch_of(SHARED[2]),
        "whole.json": other,
        "._BkgOnly.json": "",
    }
    members = [(name, json.dumps(content, indent=4).encode()) for name, content in files.items()]
    members[-1] = ("._BkgOnly.json", b"\x00\x05\x16\x07")  # as Macs leave it
    members.append(("README.md", b"# x"))
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        zip_of(path, *members)
    else:
        tar_of(path, *members, mode=f"w:{kind.removeprefix('tar.')}")
    found = unpack(path, tmp_path / "out")
    assert found.problem is None
    assert len(found.likelihoods) == 4
    wanted = {
        "whole": other,
        "RegionA/x": SHARED[0],
        "RegionA/y": SHARED[1],
        "RegionB/x": other,
        "early/patch.m_1": SHARED[2],
    }
    limits = observed(tmp_path / "out")
    assert list(limits) == list(wanted)
    for name, workspace in wanted.items():
        assert limits[name] == pytest.approx(alone(workspace, tmp_path / "alone"), rel=1e-9)
    assert list(observed(tmp_path / "out", "x")) == ["RegionA/x", "RegionB/x"]
    assert list(observed(tmp_path / "out", "RegionB/*")) == ["RegionB/x"]


def test_a_patchset_without_its_workspace(tmp_path: Path) -> None:
    """Catches a patchset that is used with another background; unpacking says so, and limits are refused."""
    background = background_of(SHARED[0])
    patchset = patchset_of({**background, "version": "2"}, x=patch_of(SHARED[0]))
    members = [("BkgOnly.json", json.dumps(background).encode()), ("p.json", json.dumps(patchset).encode())]
    found = unpack(tar_of(tmp_path / "x.tar", *members, mode="w"), tmp_path / "out")
    assert found.problem is not None
    assert found.problem.startswith("p.json: no workspace beside it has its digest (found: BkgOnly.json)")
    with pytest.raises(WorkspaceError, match=r"p\.json: no workspace beside it has its digest"):
        list(find_likelihoods(tmp_path / "out"))


def test_a_directory_without_likelihoods(tmp_path: Path) -> None:
    """Catches a limit command that finds nothing and says nothing."""
    (tmp_path / "some.json").write_text("{}")
    with pytest.raises(UserError, match="not a run directory, and there are no likelihoods in it"):
        list(targets_at(tmp_path))
    (tmp_path / "w.json").write_text(json.dumps(SHARED[0]))
    with pytest.raises(InputFileError, match="no likelihood is called z; there is for example w"):
        list(targets_at(tmp_path, pattern="z"))


def test_errors_are_of_the_user() -> None:
    """Catches an exit code of 1 for a bad archive."""
    assert ArchiveError("x").exit_code == 2
