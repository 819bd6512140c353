"""From a finished run to the directory that is published: likelihoods, tables, figures, and the archive for HEPData.

    OUT/README.md           what is here, for people
    OUT/likelihoods/        BkgOnly.json and patchset.json, or one pair for each fit region below regions/
    OUT/hepdata/            submission.yaml and all that it names, likelihoods.tar.gz included
    OUT/submission.tar.gz   the same, to be uploaded; its bytes depend on the run alone

Everything is written into a temporary directory beside OUT, verified there, and moved into place.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import BundleError, FitFailure, UserError, WorkspaceError
from modelbuilder.publish import hepdata
from modelbuilder.publish.archive import files_below, new_folder, write_tar_gz
from modelbuilder.publish.finished_run import FinishedRun, finished_run
from modelbuilder.publish.likelihoods import (
    DIGITS,
    INDEX,
    UNPUBLISHED,
    Region,
    index_text,
    regions_of,
    to_text,
    write_region,
)
from modelbuilder.publish.readme import bundle_readme, likelihoods_readme
from modelbuilder.publish.tables import Fit, Fitted, all_tables, as_fit, effects_of
from modelbuilder.publish.verify import Verified, verify_likelihoods
from modelbuilder.scan.store import FIGURES, SPEC
from modelbuilder.spec.load import LoadedSearch

if TYPE_CHECKING:
    from modelbuilder.publish.hepdata import Resource
    from modelbuilder.publish.tables import Table

README = "README.md"
PROVENANCE = "provenance.json"
LIKELIHOODS = "likelihoods"
ARCHIVE = "submission.tar.gz"
_LIKELIHOOD_TEXT = "Likelihoods (HistFactory, pyhf JSON): background-only workspaces and one patch for each grid point"

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """inspire: `ins` and the seven digits of the paper.    licence: a key of `hepdata.LICENCES`.

    cut_flows: files of `modelbuilder simulate --json`.    likelihoods_at: where likelihoods too large for HEPData are.
    max_upload_bytes: beyond it they are too large.
    """

    inspire: str = UNPUBLISHED
    licence: str = "CC0"
    cut_flows: tuple[Path, ...] = ()
    likelihoods_at: str | None = None
    max_upload_bytes: int = hepdata.MAX_UPLOAD_BYTES


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was written. parts: archives of likelihoods that HEPData would not take with the rest; usually none."""

    path: Path
    archive: Path
    archive_bytes: int
    regions: int
    tables: int
    figures: int
    verified: Verified
    parts: tuple[Path, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "path": str(self.path),
            "archive": str(self.archive),
            "archive_bytes": self.archive_bytes,
            "regions": self.regions,
            "tables": self.tables,
            "figures": self.figures,
            "verified": asdict(self.verified),
            "parts": [str(part) for part in self.parts],
            "notes": list(self.notes),
        }


def publish_run(
    run_path: Path, output: Path, options: Options | None = None, *, progress: Progress = lambda text: None
) -> Published:
    """Publish a finished run into a directory that does not exist yet, or is empty.

    Raises UserError for what cannot be published or where it cannot go, BundleError if what was written is not what was
    run; nothing is left behind then.
    """
    options = options or Options()
    _check_options(options)
    run = finished_run(run_path)
    notes: list[str] = []
    with new_folder(output) as folder:
        progress(f"likelihoods of {len(run.points)} points")
        effects = [effects_of(run.workspace(point), run.signal_samples) for point in run.points]
        regions = regions_of(run)
        archives, verified = _write_likelihoods(run, regions, folder, options, progress)
        tables = all_tables(run, effects, options.cut_flows, _fit_of(run, notes), _fitted(run, notes))
        figures = _other_figures(run, tables)
        if not any(table.figures for table in tables if table.file.startswith("limit_")):
            notes.append(f"no figures of limits in {run_path / FIGURES}; `modelbuilder plot {run_path}` draws them")
        progress(f"{len(tables)} tables")
        inside = len(archives) == 1
        while True:
            _write_submission(run, folder, options, tables, figures, archives, inside=inside)
            size = (folder / ARCHIVE).stat().st_size
            if size <= options.max_upload_bytes:
                break
            if not inside:
                msg = f"{ARCHIVE} has {size} bytes without the likelihoods; HEPData takes {options.max_upload_bytes}"
                raise BundleError(msg)
            inside = False
        if inside:
            archives[0].unlink()
            archives = []
        elif options.likelihoods_at is None:
            where = ", ".join(archive.name for archive in archives)
            notes.append(
                f"the likelihoods are too large for HEPData, which takes {options.max_upload_bytes / 1e6:g} MB in all; they"
                f" are in {where}: deposit them elsewhere, and publish again with --likelihoods-at ADDRESS"
            )
        parts = tuple(archive.name for archive in archives)
        (folder / README).write_text(bundle_readme(run, parts), encoding="utf-8", newline="\n")
    return Published(
        path=output,
        archive=output / ARCHIVE,
        archive_bytes=size,
        regions=len(regions),
        tables=len(tables),
        figures=len({path for path in (*figures, *_shown(tables)) if path.suffix == ".png"}),
        verified=verified,
        parts=tuple(output / part for part in parts),
        notes=tuple(notes),
    )


def _check_options(options: Options) -> None:
    if not re.fullmatch(r"ins[0-9]{7}", options.inspire):
        msg = f"--inspire {options.inspire}: expected `ins` and seven digits, such as ins1811335"
        raise UserError(msg)
    if options.licence not in hepdata.LICENCES:
        msg = f"--licence {options.licence}: known are {', '.join(hepdata.LICENCES)}"
        raise UserError(msg)
    address = options.likelihoods_at
    if address is not None and not re.fullmatch(r"https?://[!-~]{1,240}", address):
        msg = f"--likelihoods-at {address}: expected an address such as https://doi.org/10.5281/zenodo.1234567"
        raise UserError(msg)


def _write_likelihoods(
    run: FinishedRun, regions: Sequence[Region], folder: Path, options: Options, progress: Progress
) -> tuple[list[Path], Verified]:
    """The likelihoods, verified, and their archive; in several, each with a share of the grid, if one is too large."""
    number = 1
    while True:
        parts = _shares(run, regions, number)
        for name, share in parts:
            _write_share(run, share, folder / LIKELIHOODS / name, options)
        archives = []
        for name, _ in parts:
            archive = folder / (f"{LIKELIHOODS}_{name}.tar.gz" if name else f"{LIKELIHOODS}.tar.gz")
            write_tar_gz(archive, files_below(folder / LIKELIHOODS / name))
            archives.append(archive)
        largest = max(archive.stat().st_size for archive in archives)
        if largest <= options.max_upload_bytes or number >= len(run.points):
            break
        wanted = -(-number * largest * 11 // (10 * options.max_upload_bytes))  # with a tenth to spare
        number = min(len(run.points), max(number + 1, wanted))
        shutil.rmtree(folder / LIKELIHOODS)
        for archive in archives:
            archive.unlink()
    progress("comparing them with the run")
    everything = [
        Region(f"{name}/{region.folder}".strip("/"), region.points) for name, share in parts for region in share
    ]
    return archives, verify_likelihoods(run, everything, folder / LIKELIHOODS)


def _shares(run: FinishedRun, regions: Sequence[Region], number: int) -> list[tuple[str, list[Region]]]:
    """The regions in `number` parts with about as many points each, in the order of the grid."""
    if number == 1:
        return [("", list(regions))]
    length = -(-len(run.points) // number)
    found = []
    for index, start in enumerate(range(0, len(run.points), length), start=1):
        chosen = set(run.points[start : start + length])
        share = [
            Region(region.folder, points)
            for region in regions
            if (points := tuple(point for point in region.points if point in chosen))
        ]
        found.append((f"part_{index}", share))
    return found


def _write_share(run: FinishedRun, regions: Sequence[Region], folder: Path, options: Options) -> None:
    provenance = _provenance(run, options)
    about = {
        key: provenance[key]
        for key in ("spec", "spec_digest", "seed", "data", "confidence_level", "rounding", "license")
    }
    for region in regions:
        write_region(run, region, folder, about=about, inspire=options.inspire)
    (folder / INDEX).write_text(index_text(run, regions), encoding="utf-8", newline="\n")
    (folder / PROVENANCE).write_text(to_text(provenance), encoding="utf-8", newline="\n")
    (folder / README).write_text(likelihoods_readme(run, regions), encoding="utf-8", newline="\n")
    shutil.copyfile(run.path / SPEC, folder / SPEC)


def _provenance(run: FinishedRun, options: Options) -> dict[str, Any]:
    """What was run, by which versions, with which seeds; no times, which would change the bytes."""
    about = run.about
    return {
        "spec": about["spec"],
        "title": run.search.spec.title,
        "spec_digest": about["digest"],
        "seed": about["seed"],
        "data": run.data,
        "confidence_level": run.confidence_level,
        "methods": list(run.methods),
        "sources": about["sources"],
        "versions": about["versions"],
        "python": about["python"],
        "rounding": f"yields to {DIGITS} significant digits, tables to {hepdata.DIGITS}",
        "license": {"name": options.licence, "url": hepdata.LICENCES[options.licence]},
    }


def _fit_of(run: FinishedRun, notes: list[str]) -> Fit | None:
    """The fit of the point with the largest excess."""
    from modelbuilder.inference import diagnostics
    from modelbuilder.inference.choice import open_likelihood

    for point in _largest_excess(run):
        try:
            likelihood, _ = open_likelihood(run.workspace(point))
            result = diagnostics.fit_with_uncertainties(likelihood)
        except (FitFailure, WorkspaceError) as failure:
            notes.append(f"no table of correlations: the fit of {point} failed: {failure}")
            return None
        return as_fit(point, result, [parameter.name for parameter in likelihood.parameters if not parameter.fixed])
    return None


def _fitted(run: FinishedRun, notes: list[str]) -> list[Fitted]:
    """The spectra after the fit that the run has figures of, and that of the largest excess.

    None in a plane of masses, whose windows are single counts, or of several searches.
    """
    from modelbuilder.inference import PyhfLikelihood, diagnostics
    from modelbuilder.publish.figures import fitted_spectrum

    if not isinstance(run.search, LoadedSearch) or run.search.spec.in_plane:
        return []
    drawn = [point for point in run.points if (run.path / FIGURES / f"postfit_{point}.png").is_file()]
    found = []
    for point in dict.fromkeys((*drawn, *_largest_excess(run))):
        edges = run.edges(point)
        if not edges:
            notes.append(f"no table of the spectrum at {point}: the run kept no templates")
            continue
        try:
            workspace = run.workspace(point)
            likelihood = PyhfLikelihood(workspace)
            fit = diagnostics.fit_with_uncertainties(likelihood)
        except (FitFailure, WorkspaceError) as failure:
            notes.append(f"no table of the spectrum at {point}: its fit failed: {failure}")
            continue
        window = workspace["channels"][0]["name"]  # a sideband comes after it
        (prediction,) = (found for found in diagnostics.predict(likelihood, fit) if found.channel == window)
        spectrum = fitted_spectrum(run.search, np.array(edges[0]), prediction)
        pulls = diagnostics.pulls(likelihood, fit)
        found.append(Fitted(point=point, edges=edges, spectrum=spectrum, pulls=pulls))
    return found


def _largest_excess(run: FinishedRun) -> tuple[str, ...]:
    """The point with the largest local significance; nothing where none is known."""
    found = [row for row in run.rows if row["status"] == "ok" and row.get("local_significance") is not None]
    return (str(max(found, key=lambda row: float(row["local_significance"]))["point"]),) if found else ()


def _shown(tables: Sequence[Table]) -> set[Path]:
    return {path for table in tables for path in table.figures}


def _other_figures(run: FinishedRun, tables: Sequence[Table]) -> list[Path]:
    """Pictures of the run that belong to no table, such as templates before a fit, each with its numbers as CSV."""
    folder, shown = run.path / FIGURES, _shown(tables)
    pictures = [path for path in sorted(folder.glob("*.png")) if path not in shown]
    tables_beside = [path.with_suffix(".csv") for path in pictures]
    compared = sorted(folder.glob("*_comparisons.csv"))
    return [*pictures, *(path for path in (*tables_beside, *compared) if path.is_file())]


def _write_submission(
    run: FinishedRun,
    folder: Path,
    options: Options,
    tables: Sequence[Table],
    figures: Sequence[Path],
    archives: Sequence[Path],
    *,
    inside: bool,
) -> None:
    """The directory `hepdata`, checked, and its archive; with the likelihoods inside, or where they are, if that is known."""
    target = folder / "hepdata"
    if target.exists():
        shutil.rmtree(target)
    target.mkdir()
    resources: list[Resource] = []
    if inside:
        shutil.copyfile(archives[0], target / archives[0].name)
        resources.append(hepdata.Resource(location=archives[0].name, description=_LIKELIHOOD_TEXT, type="HistFactory"))
    elif options.likelihoods_at is not None:
        text = f"{_LIKELIHOOD_TEXT}; archives: {len(archives)}"
        resources.append(hepdata.Resource(location=options.likelihoods_at, description=text, type="HistFactory"))
    for figure in figures:
        shutil.copyfile(figure, target / figure.name)
    resources += _figure_resources(figures)
    hepdata.write_submission(target, _submission(run, options, tables, resources))
    hepdata.check_submission(target)
    write_tar_gz(folder / ARCHIVE, files_below(target))


def _figure_resources(figures: Sequence[Path]) -> list[Resource]:
    heads = {".png": "Figure", ".csv": "Numbers of the figure"}
    return [hepdata.Resource(location=path.name, description=f"{heads[path.suffix]}: {path.stem}") for path in figures]


def _submission(
    run: FinishedRun, options: Options, tables: Sequence[Table], resources: Sequence[Resource]
) -> hepdata.Submission:
    spec = run.search.spec
    papers = f" ({', '.join(spec.papers)})" if spec.papers else ""
    return hepdata.Submission(
        comment=(
            f"{spec.title}, {run.experiments}{papers}: limits and likelihoods at {run.points_text}. {run.data_text} Made with"
            f" modelbuilder {run.about['versions']['modelbuilder']} from the spec {run.about['spec']}"
            f" (digest {run.about['digest']}, seed {run.about['seed']})."
        ),
        licence=options.licence,
        cm_energies=run.sqrt_s,
        reactions=tuple(dict.fromkeys(_reaction(one.spec.signal.process) for one in run.searches.values())),
        phrases=("Upper limits", "Dark sector", *run.experiments.split(" + ")),
        resources=tuple(resources),
        tables=tuple(tables),
    )


def _reaction(process: str) -> str:
    """The first step as HEPData writes it: E+ E- --> GAMMA A."""
    return process.partition(",")[0].strip().upper().replace("->", "-->")
