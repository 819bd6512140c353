"""The command line: parses, calls, prints. Heavy modules are imported by the commands that need them."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from modelbuilder import __version__
from modelbuilder.errors import InputFileError, ModelBuilderError, SpecError, UserError
from modelbuilder.spec.methods import Method, Prior

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelbuilder.histograms.look import Look
    from modelbuilder.scan.run import Progress, Summary
    from modelbuilder.spec.check_file import Checked
    from modelbuilder.spec.load import Loaded

app = typer.Typer(
    name="modelbuilder",
    help=(
        "Statistics of dark-sector searches at B factories, from one spec file per search to limits on couplings.\n\n"
        "Start with: modelbuilder run specs/belle2/alp_gammagamma_2018.yaml -o out --points 12"
    ),
    no_args_is_help=True,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = "interrupted; finished points are kept, run the same command again to go on"
Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="Spec file of a search or a combination, YAML or JSON.")]
Specs = Annotated[
    list[Path], typer.Argument(metavar="SPEC...", help="Spec files of searches, combinations or experiments.")
]
Out = Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Run directory; an existing one is resumed.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the spec, e.g. luminosity.value='50 fb^-1'."),
]
Points = Annotated[
    int | None, typer.Option("--points", min=1, metavar="N", help="Only N masses, spread over the grid; default: all.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="Processes; default: one per processor.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        envvar="MODELBUILDER_CACHE",
        help="Folder of simulations: what is there is not simulated again, what is not goes there. Numbers stay the same.",
    ),
]
Threads = Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="Threads; default: one per processor.")]
Target = Annotated[
    Path,
    typer.Argument(
        metavar="TARGET", help="A run directory, one with published likelihoods, or a pyhf workspace (JSON)."
    ),
]
Patchset = Annotated[Path | None, typer.Option("--patchset", metavar="FILE", help="A pyhf patchset (JSON).")]
Patch = Annotated[
    str | None,
    typer.Option("--patch", metavar="PATTERN", help="Only patches, or grid points, with this name; * and ? match."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of the simulation and of the pseudo-data.")
]
Methods = Annotated[Method | None, typer.Option("--method", help="Only this method; default: those of the spec.")]
Level = Annotated[
    float | None, typer.Option("--cl", min=0.5, max=0.9999, metavar="X", help="Confidence level, e.g. 0.95.")
]
Root = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="Folder that files referred to by the spec must lie in.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]


def main() -> NoReturn:
    """Run the command line; exit code 0 if all is well, 2 if the input is at fault, 1 for anything else."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="modelbuilder")
    except ModelBuilderError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            _say(line if isinstance(error, SpecError) else f"error: {line}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say(INTERRUPTED)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left; nothing more to say
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _say(f"error: {type(error).__name__}: {error}")
        _say("this is a fault of modelbuilder; run again with --debug and report the traceback")
        sys.exit(1)
    sys.exit(0)


def _say(text: str) -> None:
    """A message, on standard error."""
    sys.stderr.write(f"{text}\n")


def _print(text: str) -> None:
    """A result, on standard output."""
    sys.stdout.write(f"{text}\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False))


def _show_version(wanted: bool) -> None:
    if wanted:
        _print(f"modelbuilder {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    del version, debug


def _overrides(
    changes: list[str] | None, method: str | None = None, level: float | None = None, seed: int | None = None
) -> Iterator[str]:
    """All options that change the spec, in the form of --set."""
    yield from changes or ()
    if method is not None:
        yield f"statistics.methods=[{method}]"
    if level is not None:
        yield f"statistics.confidence_level={level!r}"
    if seed is not None:
        yield f"seed={seed}"
        yield f"data.seed={seed}"


def _load(
    spec: Path,
    changes: list[str] | None,
    root: Path | None,
    method: str | None = None,
    level: float | None = None,
    seed: int | None = None,
) -> Loaded:
    from modelbuilder.spec.load import load_spec

    return load_spec(spec, overrides=list(_overrides(changes, method, level, seed)), root=root)


@app.command()
def validate(specs: Specs, root: Root = None, as_json: Json = False) -> None:
    """Check specs and print all their problems, one per line: file:line:column: path: message."""
    from modelbuilder.spec.check_file import check_file

    found = {spec: _with_bins(spec, check_file(spec, root=root), root) for spec in specs}
    problems = [problem for result in found.values() for problem in result.problems]
    if as_json:
        keys = ("file", "line", "column", "path", "message")
        _print_json([{key: getattr(problem, key) for key in keys} for problem in problems])
    else:
        for spec, result in found.items():
            for problem in result.problems:
                _print(str(problem))
            if not result.problems:
                _print(f"{spec}: fine: {result.summary}")
    if problems:
        raise typer.Exit(2)


def _with_bins(spec: Path, checked: Checked, root: Path | None) -> Checked:
    """The same with what only the binning of the channels tells of files of data and backgrounds."""
    if checked.problems or not checked.has_files:
        return checked
    from modelbuilder.scan.points import check_files

    try:
        check_files(_load(spec, None, root))
    except SpecError as error:
        return replace(checked, problems=error.problems)
    return checked


@app.command()
def new(
    archetype: Annotated[
        str | None, typer.Argument(metavar="ARCHETYPE", help="The kind of search; without it, all are listed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The spec; default: ARCHETYPE.yaml here.")
    ] = None,
) -> None:
    """Write a commented starting spec for a kind of search, with an experiment file beside it."""
    from modelbuilder.spec.starting import archetypes, write_archetype

    if archetype is None:
        for name, text in archetypes().items():
            _print(f"{name:16} {text}")
        return
    written = write_archetype(archetype, output or Path(f"{archetype}.yaml"))
    for path in written:
        _print(f"written: {path}")
    _print(f"next:    modelbuilder run {written[0]} -o out --points 5")


@app.command()
def show(
    spec: Spec,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the spec with everything merged in.")] = False,
    origin: Annotated[bool, typer.Option("--origin", help="The same, with file:line of each value.")] = False,
    grid: Annotated[bool, typer.Option("--grid", help="Print the grid points.")] = False,
    edges: Annotated[
        bool,
        typer.Option("--edges", help="Print the bin edges of the channels, as CSV: what histograms are filled in."),
    ] = False,
    changes: Set = None,
    root: Root = None,
) -> None:
    """Print what the tool understood: a summary, the resolved spec, the grid, or the binning."""
    from modelbuilder.spec.emit import to_yaml
    from modelbuilder.spec.summary import grid_lines, summary_lines

    search = _load(spec, changes, root)
    if edges:
        from modelbuilder.scan.points import edges_csv

        lines = [edges_csv(search).rstrip("\n")]
    elif grid:
        lines = grid_lines(search)
    elif resolved or origin:
        lines = [to_yaml(search.tree, origin=origin).rstrip("\n")]
    else:
        lines = summary_lines(search)
    for line in lines:
        _print(line)


@app.command()
def simulate(
    spec: Spec,
    events: Annotated[int, typer.Option("--events", "-n", min=1, metavar="N", help="Events to simulate.")] = 100_000,
    point: Annotated[
        str | None,
        typer.Option(
            "--point", metavar="MASS", help="Mass in GeV, or two as 4,1; on the grid or not; default: the middle."
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option("--sample", metavar="NAME", help="The signal, or a background of the spec.")
    ] = "signal",
    observable: Annotated[
        str | None,
        typer.Option("--observable", metavar="TEXT", help="Such as 'pt(mu+ mu-)'; default: that of the channel."),
    ] = None,
    lifetime: Annotated[
        str | None,
        typer.Option(
            "--lifetime", metavar="X=CTAU,...", help="Efficiency at other lifetimes too, e.g. 'S = 0.1 mm, 1 cm, 2 m'."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Histograms (.json, UHI) or selected events (.parquet)."),
    ] = None,
    draw: Annotated[
        bool, typer.Option("--plot", help="Draw the observable with its fitted resolution, beside FILE or here.")
    ] = False,
    changes: Set = None,
    jobs: Threads = None,
    seed: Seed = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Look at one sample: cut flow with efficiencies, an observable with its resolution, events."""
    from modelbuilder.histograms.look import Looker, parse_lifetimes, parse_masses
    from modelbuilder.kinematics.shards import available_threads
    from modelbuilder.spec.load import LoadedCombination

    if output is not None and output.suffix not in (".json", ".parquet"):
        msg = f"{output}: the suffix is {output.suffix or 'missing'}; write .json for histograms, .parquet for events"
        raise UserError(msg)
    search = _load(spec, changes, root, seed=seed)
    if isinstance(search, LoadedCombination):
        msg = (
            f"{spec}: is a combination; look at one of its searches, {', '.join(search.searches)}, in a file of its own"
        )
        raise UserError(msg)
    masses = None if point is None else parse_masses(point)
    threads = available_threads(jobs)
    looker = Looker(
        search,
        sample=sample,
        masses=masses,
        observable=observable,
        lifetimes=None if lifetime is None else parse_lifetimes(lifetime),
        n_events=events,
        n_threads=threads,
    )
    figure = output.with_suffix("") if output else Path(f"{search.spec.name}_{sample}_{looker.point.name}")
    for path in [*([output] if output else []), *([figure.with_name(f"{figure.name}.png")] if draw else [])]:
        _refuse_unwritable(path)
    _announce_compilation()
    look = looker.look()
    written: list[Path] = []
    if output is not None:
        if output.suffix == ".json":
            written.append(_write_histograms(look, output))
        else:
            looker.write_events(output)
            written.append(output)
    if draw:
        from modelbuilder.publish.look import draw_look

        written += draw_look(figure, search, look)
    if as_json:
        _print_json({**look.as_dict(), "files": [str(path) for path in written]})
        return
    for line in look.lines():
        _print(line)
    for path in written:
        _print(f"written: {path}")


def _refuse_unwritable(path: Path) -> None:
    """Raise UserError if a file cannot be written, before there is anything to write; makes its folder."""
    if path.is_dir():
        msg = f"{path}: is a directory; give the name of a file"
        raise UserError(msg)
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written: {error.strerror or error}; choose another place")


def _announce_compilation() -> None:
    from modelbuilder.kinematics import _chain
    from modelbuilder.kinematics.shards import is_compiled

    if not is_compiled(_chain.chain_shard):
        _say("compiling the kernels: once on this machine, about a minute")


def _write_histograms(look: Look, path: Path) -> Path:
    from modelbuilder.histograms.templates import SampleTemplates, histograms, to_uhi_json
    from modelbuilder.scan.store import write_atomically

    found = histograms({look.sample: SampleTemplates(look.nominal, look.varied)}, None, look.axis, look.edges)
    try:
        write_atomically(path, to_uhi_json(found))
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


@app.command()
def build(
    spec: Spec,
    output: Out,
    points: Points = None,
    changes: Set = None,
    jobs: Jobs = None,
    seed: Seed = None,
    cache: Cache = None,
    root: Root = None,
) -> None:
    """Simulate and write templates and one pyhf workspace per mass, without limits."""
    search = _load(spec, changes, root, seed=seed)
    summary = _scan(search, output, points, jobs, cache, limits=False)
    _say(f"{summary.points} workspaces in {output / 'workspaces'}, templates in {output / 'templates'}")


@app.command()
def run(
    spec: Spec,
    output: Out,
    points: Points = None,
    changes: Set = None,
    method: Methods = None,
    level: Level = None,
    jobs: Jobs = None,
    seed: Seed = None,
    cache: Cache = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Everything: simulate, build, find limits and couplings, write tables and figures. Resumes where it stopped."""
    search = _load(spec, changes, root, method, level, seed)
    summary = _scan(search, output, points, jobs, cache, limits=True)
    drawn: list[Path] = []
    if len(summary.failed) < summary.points:
        drawn = _draw(output, [])
    if as_json:
        failed = dict(sorted(summary.failed.items()))
        _print_json(
            {
                "run": str(output),
                "points": summary.points,
                "resumed": summary.resumed,
                "failed": failed,
                "failed_at_lifetimes": summary.failed_at_lifetimes,
                "figures": [str(path) for path in drawn],
            }
        )
    else:
        _report(search, summary, drawn)


@app.command()
def limit(
    target: Target,
    patchset: Patchset = None,
    patch: Patch = None,
    method: Annotated[Method, typer.Option("--method", help="How the limit is found.")] = "cls",
    level: Annotated[
        float | None,
        typer.Option(
            "--cl", min=0.5, max=0.9999, metavar="X", help="Confidence level; default: of the run, else 0.95."
        ),
    ] = None,
    toys: Annotated[
        int | None,
        typer.Option(
            "--toys",
            min=100,
            metavar="N",
            help="Toys per hypothesis, in place of asymptotic formulas; for bayesian, of its expected band.",
        ),
    ] = None,
    prior: Annotated[
        Prior | None, typer.Option("--prior", help="Of the signal strength, for bayesian; default: flat.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of toys and samples.")] = 1,
    jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Limits on the signal strength of workspaces that exist already, ours or any other."""
    from modelbuilder.inference.choice import LimitRequest
    from modelbuilder.kinematics.shards import available_threads
    from modelbuilder.scan.target import INVALID, confidence_level_of, limits_at, targets_at

    single = not target.is_dir() and patchset is None
    if prior is not None and method != "bayesian":
        msg = f"--prior {prior}: only --method bayesian has a prior"
        raise UserError(msg)
    if level is None:
        level = confidence_level_of(target)
    if not level > 0.5:
        msg = f"--cl {level:g}: a confidence level lies above 0.5, such as 0.95"
        raise UserError(msg)
    request = LimitRequest(
        method=method,
        confidence_level=level,
        toys=toys,
        prior=prior or "flat",
        band_toys=toys if method == "bayesian" else None,
        seed=seed,
    )
    _announce_likelihood()
    found: list[dict[str, Any]] = []
    for result in limits_at(
        targets_at(target, patchset=patchset, pattern=patch), request, jobs=available_threads(jobs)
    ):
        if not as_json and not found:
            _say(f"upper limits at {100 * level:g} % CL, {method}{f', {toys} toys' if toys else ''}")
            _print(f"{'name':24} {'observed':>12} {'expected':>12} {'-1 sigma':>12} {'+1 sigma':>12}  status")
        found.append(result)
        if not as_json:
            _print_limit(result, single=single)
    if as_json:
        _print_json(found[0] if single else found)
    if all(result["status"] != "ok" for result in found):
        for result in found[:1]:
            _say(f"error: {result['status']}: {result['detail']}")
        raise typer.Exit(2 if all(result["status"] == INVALID for result in found) else 1)


def _announce_likelihood() -> None:
    from modelbuilder.inference._limits import limits_packed
    from modelbuilder.kinematics.shards import is_compiled

    if not is_compiled(limits_packed):
        _say("compiling the likelihood: once on this machine, about a minute")


def _print_limit(result: dict[str, Any], *, single: bool) -> None:
    """A line of the table; what to keep in mind goes to standard error."""
    name = result.get("patch") or result["poi"]
    numbers = " " * 51
    if result["status"] == "ok":
        _, m1, median, p1, _ = result["expected"] or [None] * 5
        numbers = " ".join(("" if x is None else f"{x:.5g}").rjust(12) for x in (result["observed"], median, m1, p1))
    _print(f"{name:24} {numbers}  {result['status']}")
    if result["status"] == "ok":
        for warning in result["warnings"]:
            _say(f"warning: {name}: {warning}")
        if "observed_lower_edge" in result:
            _say(f"note: {name}: the interval is {result['observed_lower_edge']:.5g} to {result['observed']:.5g}")
        if "observed_interval" in result:
            low, high = result["observed_interval"]
            _say(f"note: {name}: with these toys the observed limit is known to lie between {low:.5g} and {high:.5g}")
    elif not single:
        _say(f"failed: {name}: {result['status']}: {result['detail']}")


@app.command()
def fit(
    target: Target,
    patchset: Patchset = None,
    patch: Patch = None,
    asimov: Annotated[
        bool, typer.Option("--asimov", help="Fit what the model expects at nominal parameters, not the observed data.")
    ] = False,
    with_impacts: Annotated[
        bool, typer.Option("--impacts", help="Also the impact of each nuisance parameter on the signal strength.")
    ] = False,
    toys: Annotated[
        int | None, typer.Option("--toys", min=100, metavar="N", help="Also the goodness of fit with N toys.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the toys.")] = 1,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="DIR", help="Draw pulls, correlations and, with --impacts, the ranking into DIR."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Best fit of workspaces that exist already: uncertainties, pulls, goodness of fit, impacts."""
    from modelbuilder.scan.fit_report import fit_report
    from modelbuilder.scan.target import INVALID, targets_at

    if plots is not None:
        _refuse_unwritable(plots / "pulls.pdf")
    single = not target.is_dir() and patchset is None
    documents: list[dict[str, Any]] = []
    for item in targets_at(target, patchset=patchset, pattern=patch):
        report = fit_report(item, asimov=asimov, with_impacts=with_impacts, toys=toys, seed=seed)
        drawn: list[Path] = []
        if plots is not None and report.fit is not None:
            from modelbuilder.publish.fit import draw_fit_figures

            drawn = draw_fit_figures(report, plots)
        documents.append(report.as_dict())
        if plots is not None:
            documents[-1]["figures"] = [str(path) for path in drawn]
        if not as_json:
            for line in ([""] if len(documents) > 1 else []) + report.lines():
                _print(line)
            for path in drawn:
                _print(f"figure: {path}")
    if as_json:
        _print_json(documents[0] if single else documents)
    if all(document["status"] != "ok" for document in documents):
        for document in documents[:1]:
            _say(f"error: {document['status']}: {document['detail']}")
        raise typer.Exit(2 if all(document["status"] == INVALID for document in documents) else 1)


@app.command()
def significance(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    toys: Annotated[int, typer.Option("--toys", min=100, metavar="N", help="Toys of the whole scan.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the toys.")] = 1,
    jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """The largest excess of a run, and how likely background alone shows as large a one anywhere."""
    from modelbuilder.kinematics.shards import available_threads
    from modelbuilder.scan.significance import scan_significance, to_json
    from modelbuilder.scan.store import write_atomically

    if target.is_dir():
        _refuse_unwritable(target / "significance.json")
    found = scan_significance(target, n_toys=toys, seed=seed, n_threads=available_threads(jobs))
    write_atomically(target / "significance.json", to_json(found))
    if as_json:
        _print_json(found.as_dict())
        return
    for line in found.lines():
        _print(line)


@app.command()
def inject(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    points: Annotated[
        int | None,
        typer.Option(
            "--points", min=1, metavar="N", help="Masses, spread over the grid; default: 5, or all without toys."
        ),
    ] = None,
    strengths: Annotated[
        str, typer.Option("--strengths", metavar="A,B,...", help="Injected signals, in standard deviations.")
    ] = "0,2,5",
    toys: Annotated[
        int,
        typer.Option(
            "--toys", min=0, metavar="N", help="Pseudo-data sets of each; 0: the fit to the expectation alone."
        ),
    ] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the toys.")] = 1,
    jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Inject signals into pseudo-data of a run, and see whether the fits give them back."""
    from modelbuilder.kinematics.shards import available_threads
    from modelbuilder.scan.injection import LEAST_TOYS, to_json
    from modelbuilder.scan.injection import inject as injected
    from modelbuilder.scan.store import write_atomically

    sizes = _numbers(strengths)
    if 0 < toys < LEAST_TOYS:
        msg = f"--toys {toys}: a width needs {LEAST_TOYS} or more; with 0 the expectation alone is fitted"
        raise UserError(msg)
    if target.is_dir():
        _refuse_unwritable(target / "injection.json")
    found = injected(
        target,
        points=points or (5 if toys else None),
        strengths=sizes,
        n_toys=toys,
        seed=seed,
        n_threads=available_threads(jobs),
    )
    write_atomically(target / "injection.json", to_json(found))
    if as_json:
        _print_json([one.as_dict() for one in found])
        return
    for one in found:
        for line in one.lines():
            _print(line)


def _numbers(text: str) -> list[float]:
    """The numbers of an option such as `0,2,5`."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0.0 <= number < 1e6 for number in found):
        msg = f"--strengths {text}: expected numbers of standard deviations, 0 or more, as in 0,2,5"
        raise UserError(msg)
    return found


@app.command()
def plot(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    point: Annotated[
        list[str] | None,
        typer.Option("--point", metavar="NAME", help="Also spectra and pulls of this grid point, by name or mass."),
    ] = None,
) -> None:
    """Draw the limits of a run again, and the spectra of chosen masses, into RUN/figures."""
    for path in _draw(target, point or []):
        _print(str(path))


@app.command()
def publish(
    target: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A directory that is not there yet.")],
    inspire: Annotated[
        str, typer.Option("--inspire", metavar="ins1234567", help="Number of the paper at INSPIRE.")
    ] = "ins0000000",
    licence: Annotated[str, typer.Option("--licence", help="CC0, as HEPData asks for, or CC-BY-4.0.")] = "CC0",
    cut_flow: Annotated[
        list[Path] | None,
        typer.Option(
            "--cut-flow", metavar="FILE", help="What `modelbuilder simulate --json` printed; may be repeated."
        ),
    ] = None,
    likelihoods_at: Annotated[
        str | None,
        typer.Option("--likelihoods-at", metavar="URL", help="Where likelihoods too large for HEPData are deposited."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write what is published: likelihoods, HEPData tables and figures, and the archive to upload; all verified first."""
    from modelbuilder.publish.bundle import Options, publish_run

    _announce_likelihood()
    options = Options(inspire=inspire, licence=licence, cut_flows=tuple(cut_flow or ()), likelihoods_at=likelihoods_at)
    done = publish_run(target, output, options, progress=_say)
    for note in done.notes:
        _say(f"note: {note}")
    if as_json:
        _print_json(done.as_dict())
        return
    for line in done.verified.lines():
        _print(line)
    folders = "one set of fit regions" if done.regions == 1 else f"{done.regions} sets of fit regions"
    _print(f"likelihoods: {output / 'likelihoods'} ({done.verified.points} points, {folders})")
    _print(f"tables:      {done.tables}, with {done.figures} figures, in {output / 'hepdata'}")
    for part in done.parts:
        _print(f"deposit:     {part}")
    _print(f"upload:      {done.archive} ({done.archive_bytes / 1e6:.3g} MB)")


@app.command()
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="zip, tar, tar.gz, tar.xz or tar.bz2.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A directory that is not there yet.")],
    as_json: Json = False,
) -> None:
    """Unpack published likelihoods, ours or any other, as untrusted input; then: modelbuilder limit DIR."""
    from modelbuilder.publish.unpack import unpack as unpack_archive

    found = unpack_archive(archive, output)
    if as_json:
        _print_json(found.as_dict())
        return
    for name in found.archives:
        _print(f"unpacked too: {name}")
    for likelihood in found.likelihoods[:10]:
        _print(str(likelihood))
    if len(found.likelihoods) > 10:
        _print(f"and {len(found.likelihoods) - 10} more")
    if found.problem is not None:
        _say(f"warning: {found.problem}")
    elif not found.likelihoods:
        _say("warning: there is no likelihood in it (pyhf workspaces, patchsets)")
    _print(f"{found.files} files in {output}")


@app.command()
def export(
    target: Target,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for the files.")],
    format_: Annotated[
        Literal["hs3", "xml", "uhi", "darkcast"],
        typer.Option("--format", help="HS3, HistFactory XML, UHI histograms, or (of a run) limits for Darkcast."),
    ],
    dialect: Annotated[
        Literal["root", "pyhs3"], typer.Option("--dialect", help="Of HS3: which program is to read it.")
    ] = "root",
    patchset: Patchset = None,
    patch: Patch = None,
) -> None:
    """Write likelihoods or limits in the formats of other programs; each file is read back and compared."""
    from modelbuilder.publish.export import export_darkcast, export_targets
    from modelbuilder.scan.target import targets_at

    if format_ == "darkcast":
        written = export_darkcast(target, output)
    else:
        _announce_likelihood()
        found = targets_at(target, patchset=patchset, pattern=patch)
        written = export_targets(found, output, format_, dialect=dialect, run=target if target.is_dir() else None)
    for path in written:
        _print(str(path))


@app.command()
def check(
    specs: Specs,
    jobs: Jobs = None,
    cache: Cache = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Run the `tests` of specs, and print what moved. Exit code 1 if something did."""
    from modelbuilder.regression.check import check_search, lines
    from modelbuilder.spec.load import load_spec

    searches = [(spec, load_spec(spec, root=root)) for spec in specs]
    documents, moved = [], 0
    for spec, search in searches:
        with _progress() as progress:
            found = check_search(search, jobs=jobs, cache=cache, progress=progress)
        moved += sum(not one.passed for one in found)
        documents.append({"spec": str(spec), "tests": [one.as_dict() for one in found]})
        if not as_json:
            _print(f"{spec}: {sum(one.passed for one in found)} of {len(found)} tests fine")
            for line in lines(found):
                _print(f"  {line}")
    if as_json:
        _print_json(documents)
    if moved:
        raise typer.Exit(1)


@app.command()
def lock(
    specs: Specs,
    points: Annotated[
        int | None,
        typer.Option("--points", min=1, metavar="N", help="Grid points to compute; default: those of the tests."),
    ] = None,
    jobs: Jobs = None,
    cache: Cache = None,
    root: Root = None,
) -> None:
    """Write what specs say today beside them, as NAME.lock.json: values, digests, yields, limits."""
    from modelbuilder.regression.lock import lock_path, lock_points, make_lock, write_lock
    from modelbuilder.spec.grid import spread
    from modelbuilder.spec.load import load_spec

    for spec in specs:
        search = load_spec(spec, root=root)
        path = lock_path(spec)
        _refuse_unwritable(path)
        chosen = lock_points(search) if points is None else [p.name for p in spread(search.points, points)]
        write_lock(path, make_lock(search, spec=spec, points=chosen, jobs=jobs, cache=cache))
        _print(f"{path}: {len(chosen)} of {len(search.points)} points")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A spec, run, workspace, lock file or bundle.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    as_json: Json = False,
) -> None:
    """What changed between two specs, runs, workspaces, lock files or bundles. Exit code 1 if something did."""
    from modelbuilder.regression.diff import diff as difference

    found = difference(before, after)
    if as_json:
        _print_json(found.as_dict())
    else:
        for line in found.lines():
            _print(line)
    if found.changes:
        raise typer.Exit(1)


@app.command()
def plan(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="A run directory to compare with.")],
    changes: Set = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """What a build of a spec would change of a run, before it does. Exit code 1 if anything."""
    from modelbuilder.regression.plan import make_plan

    found = make_plan(_load(spec, changes, root), output)
    if as_json:
        _print_json(found.as_dict())
    else:
        for line in found.lines():
            _print(line)
    if not found.nothing_to_do:
        raise typer.Exit(1)


@app.command()
def why(
    spec: Spec,
    run: Annotated[Path, typer.Option("--from", metavar="RUN", help="A run directory to compare with.")],
    point: Annotated[str, typer.Option("--point", metavar="NAME", help="A grid point, by name or mass.")],
    changes: Set = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """What of a grid point a build would make again, and which changes since a run are the reason. Exit code 1 if anything."""
    from modelbuilder.regression.why import find_why

    found = find_why(_load(spec, changes, root), run, point)
    if as_json:
        _print_json(found.as_dict())
    else:
        for line in found.lines():
            _print(line)
    if not found.nothing:
        raise typer.Exit(1)


@app.command(name="fmt")
def format_specs(
    specs: Specs,
    only_check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if something would.")] = False,
) -> None:
    """Bring specs into their one form: indentation, blanks, quotes, units. Comments and order stay."""
    from modelbuilder.scan.store import write_atomically
    from modelbuilder.spec.format import format_file

    texts = {spec: format_file(spec) for spec in specs}
    changed = [spec for spec, (text, found) in texts.items() if text != found]
    for spec in changed:
        _print(f"{'would change' if only_check else 'formatted'}: {spec}")
        if not only_check:
            write_atomically(spec, texts[spec][1])
    if changed and only_check:
        raise typer.Exit(1)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the files here.")] = None,
    check: Annotated[Path | None, typer.Option("--check", metavar="DIR", help="Compare the files here.")] = None,
) -> None:
    """Print or write the JSON Schemas of the spec files, which editors use to complete keys."""
    from modelbuilder.spec.schema import differences, schema_text, schemas

    if check is not None:
        found = differences(check)
        for line in found:
            _print(line)
        raise typer.Exit(1 if found else 0)
    if output is None:
        _print_json(schemas())
        return
    for name, content in schemas().items():
        _refuse_unwritable(output / name)
        (output / name).write_text(schema_text(content), encoding="utf-8")
        _print(str(output / name))


def _scan(
    search: Loaded, output: Path, points: int | None, jobs: int | None, cache: Path | None, *, limits: bool
) -> Summary:
    from modelbuilder.scan.run import run_search

    with _progress() as progress:
        command = shlex.join(["modelbuilder", *sys.argv[1:]])
        try:
            return run_search(
                search,
                output,
                points=points,
                jobs=jobs,
                limits=limits,
                cache=cache,
                command=command,
                progress=progress,
            )
        except KeyboardInterrupt:  # typer would make it "Aborted.", with a code of its own
            pass
    _say(INTERRUPTED)
    raise typer.Exit(1)


def _progress() -> Any:
    from contextlib import contextmanager

    @contextmanager
    def live() -> Iterator[Progress]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", rate="")

            def progress(what: str, done: int, total: int) -> None:
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f} points/s" if speed else ""
                bar.update(task, description=what, completed=done, total=total, rate=rate)

            yield progress

    @contextmanager
    def plain() -> Iterator[Progress]:
        last = -1

        def progress(what: str, done: int, total: int) -> None:
            nonlocal last
            tenth = 10 * done // max(total, 1)
            if tenth != last or done == total:
                last = tenth
                _say(f"{what}: {done} of {total} points")

        yield progress

    return live() if sys.stderr.isatty() else plain()


def _draw(run_path: Path, names: list[str]) -> list[Path]:
    from modelbuilder.publish.figures import draw_limit_figures, draw_point_figures
    from modelbuilder.scan.store import load_run

    search, rows = load_run(run_path)
    drawn = draw_limit_figures(search, run_path, rows)
    for name in names:
        drawn += draw_point_figures(search, run_path, _row_of(search, rows, name))
    return drawn


def _row_of(search: Loaded, rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The row of a grid point, by its name, or by the mass closest to a number in GeV."""
    from modelbuilder.scan.table import has_own_lifetime

    rows = [row for row in rows if not has_own_lifetime(row)]
    for row in rows:
        if row["point"] == name:
            return row
    variable, *others = (f"{variable}_gev" for variable in search.spec.grid_variables)
    try:
        mass = None if others else float(name)
    except ValueError:
        mass = None
    if mass is None:
        msg = f"no grid point is called {name!r} in this run; there is for example {rows[0]['point']}"
        raise InputFileError(msg)
    masses = [row[variable] for row in rows]
    if not min(masses) <= mass <= max(masses):
        msg = f"{name} GeV lies outside of this run, which goes from {min(masses):g} to {max(masses):g} GeV"
        raise InputFileError(msg)
    nearest = min(rows, key=lambda row: abs(row[variable] - mass))
    if nearest[variable] != mass:
        _say(f"the grid point closest to {name} GeV is {nearest[variable]:g} GeV")
    return nearest


def _report(search: Loaded, summary: Summary, drawn: list[Path]) -> None:
    from modelbuilder.scan.point import data_label
    from modelbuilder.scan.points import experiments_of

    for name, status in sorted(summary.failed.items()):
        _say(f"failed: {name}: {status}")
    again = f", {summary.resumed} of them from before" if summary.resumed else ""
    _print(f"{search.spec.title} ({experiments_of(search)})")
    label = data_label(search.spec.data)
    simulated = "" if label == "observed" else " (simulated)"
    _print(f"{summary.points} points{again}, {len(summary.failed)} failed; data: {label}{simulated}")
    for status, number in summary.failed_at_lifetimes.items():
        _print(f"lifetimes:  {number} rows without a limit: {status}")
    for line in _lint_lines(summary):
        _print(line)
    _print(f"limits:     {summary.path / 'limits.csv'}")
    _print(f"workspaces: {summary.path / 'workspaces'}")
    for path in drawn:
        if path.suffix == ".png":
            _print(f"figure:     {path}")


def _lint_lines(summary: Summary) -> Iterator[str]:
    """What to keep in mind: rows with warnings, and for each kind of finding their number and the first one."""
    if summary.warned:
        yield f"warnings:   in {summary.warned} rows, see the last column of limits.csv"
    first: dict[tuple[str, str], str] = {}
    number: dict[tuple[str, str], int] = {}
    for text in summary.lint:
        severity = text.split(": ", 2)[1]
        kind = (severity, text.rsplit("[", 1)[1].rstrip("]"))
        first.setdefault(kind, text)
        number[kind] = number.get(kind, 0) + 1
    for severity in ("error", "warning"):
        for (found, rule), text in first.items():
            if found == severity:
                yield f"{severity}:    {number[found, rule]} points: {text}"
    notes = [f"{number[found, rule]} {rule}" for found, rule in first if found == "note"]
    if first:
        yield f"lint:       {', '.join(notes) or 'no notes'}; all in {summary.path / 'lint.txt'}"
