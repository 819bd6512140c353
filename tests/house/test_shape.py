"""The shape of the house: stages in order, few public names, light doors, declared dependencies."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelbuilder

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "modelbuilder"
SPEC = ROOT / "specs" / "belle2" / "alp_gammagamma_2018.yaml"

STAGES = [
    "errors",
    "theory",
    "spec",
    "kinematics",
    "histograms",
    "workspace",
    "inference",
    "scan",
    "publish",
    "cli",
]
SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Path relative to the repository, as the name of a test case."""
    return path.relative_to(ROOT).as_posix()


def imported_names(source: str, package: str) -> Iterator[str]:
    """Dotted names of everything that is imported anywhere in the source, inside functions too.

    package: that of the module, for relative imports. `from a import b` gives `a.b`, be `b` a module or a name in `a`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return set(imported_names(path.read_text(encoding="utf-8"), package))


def stage_of(path: Path) -> str:
    """The first name below the package: `spec` for modelbuilder/spec/tree.py, `cli` for modelbuilder/cli.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def later_stages(stage: str, imports: set[str]) -> list[str]:
    """Imports of a module of this stage that point forward, or round through the public names of the package."""
    allowed = {*STAGES[: STAGES.index(stage) + 1], "__version__"}
    ours = (name.split(".") for name in imports if name.split(".")[0] == "modelbuilder")
    return sorted(".".join(parts) for parts in ours if len(parts) < 2 or parts[1] not in allowed)


def test_imports_are_found_wherever_they_hide() -> None:
    """Invariant: catches an import that the tests below would not see, which would make them pass for nothing."""
    source = (
        "import modelbuilder.publish\n"
        "from modelbuilder import scan\n"
        "from ..inference import fit\n"
        "from . import limits\n"
        "def lazy():\n"
        "    from modelbuilder.cli import main\n"
        "    importlib.import_module('modelbuilder.workspace')\n"
    )
    assert set(imported_names(source, "modelbuilder.spec")) == {
        "modelbuilder.publish",
        "modelbuilder.scan",
        "modelbuilder.inference.fit",
        "modelbuilder.spec.limits",
        "modelbuilder.cli.main",
        "modelbuilder.workspace",
    }


def test_a_step_forward_is_found() -> None:
    """Invariant: catches an order of stages, or a rule about it, that forbids nothing."""
    assert later_stages("spec", {"modelbuilder.errors.SpecError", "modelbuilder.spec.tree", "numpy"}) == []
    assert later_stages("publish", {"modelbuilder.__version__"}) == []
    assert later_stages("spec", {"modelbuilder.theory.alp"}) == []
    assert later_stages("theory", {"modelbuilder.spec.tree"}) == ["modelbuilder.spec.tree"]
    assert later_stages("scan", {"modelbuilder.load_spec", "modelbuilder"}) == [
        "modelbuilder",
        "modelbuilder.load_spec",
    ]


def test_every_module_belongs_to_a_stage() -> None:
    """Catches a module outside the stages, to which no rule below would apply, and a stage that has gone."""
    assert {stage_of(path) for path in SOURCES} - {"__init__", "__main__"} == set(STAGES)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent != PACKAGE or p.stem in STAGES], ids=name_of)
def test_a_stage_imports_only_earlier_stages(path: Path) -> None:
    """Catches an import against the flow of the data, inside functions too, or round through `modelbuilder` itself."""
    assert later_stages(stage_of(path), imports_of(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Catches a module without a docstring, a stage's `__init__.py` above all."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


COMPILERS = {"cfunc", "guvectorize", "jit", "njit", "vectorize"}


def compiles(path: Path) -> bool:
    """Whether numba's compilers are called here. To import numba for its number of threads is not enough."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return not names.isdisjoint(COMPILERS)


def is_kernel(path: Path) -> bool:
    """Whether the functions of a file are compiled, by the decorators of `_compile`."""
    return any(name.startswith("modelbuilder.kinematics._compile") for name in imports_of(path))


def test_there_are_kernels() -> None:
    """Catches a search for kernels that finds none, which would make the test below pass for nothing."""
    assert {stage_of(path) for path in SOURCES if is_kernel(path)} == {"kinematics", "inference"}


@pytest.mark.parametrize("path", [path for path in SOURCES if is_kernel(path)], ids=name_of)
def test_kernels_import_only_math_numpy_numba(path: Path) -> None:
    """Catches a kernel that imports what is not a kernel: the digest that guards the cache covers kernel files only."""
    # Beside the three, only names for type checkers, of which nothing is compiled in, and other kernels.
    allowed = re.compile(
        r"(__future__|math|numba|numpy|typing|collections\.abc|modelbuilder\.(kinematics|inference)\._\w+)(\.|$)"
    )
    assert [name for name in sorted(imports_of(path)) if not allowed.match(name)] == []


def test_only_one_file_calls_the_compiler() -> None:
    """Catches a kernel with numba's own cache, which does not notice an edit in another file."""
    assert [name_of(path) for path in SOURCES if compiles(path)] == ["modelbuilder/kinematics/_compile.py"]


def test_public_names() -> None:
    """Catches a name that becomes public, or stops being so, without anybody having decided it."""
    assert sorted(modelbuilder.__all__) == [
        "AsymptoticCalculator",
        "ModelBuilderError",
        "PyhfLikelihood",
        "Simulation",
        "UserError",
        "__version__",
        "build_point",
        "discovery",
        "load_experiment",
        "load_run",
        "load_search",
        "run_search",
        "upper_limit",
    ]


def test_public_names_exist() -> None:
    """Catches a public name that is only listed, as lazy imports make easy."""
    assert [name for name in modelbuilder.__all__ if getattr(modelbuilder, name, None) is None] == []


HEAVY = {"cabinetry", "matplotlib", "mplhep", "numba", "pyhf"}
REPORT = f"print('heavy:', *sorted({sorted(HEAVY)!r} & sys.modules.keys()), file=sys.stderr)"


def heavy_imports(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter has imported after this code, which has to succeed."""
    wrapped = f"import sys, atexit\natexit.register(lambda: {REPORT})\n{code}"
    # The package that this process tests, whichever way it came onto the path.
    environment = {**os.environ, "PYTHONPATH": str(Path(modelbuilder.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", wrapped],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    reported = re.findall(r"^heavy:(.*)$", done.stderr, flags=re.MULTILINE)
    assert len(reported) == 1, done.stderr
    return set(reported[0].split())


def test_heavy_imports_are_seen() -> None:
    """Invariant: catches a probe that sees nothing, which would make the tests below pass for nothing."""
    assert heavy_imports("import matplotlib") == {"matplotlib"}


@pytest.mark.parametrize("module", ["modelbuilder", "modelbuilder.spec", "modelbuilder.cli"])
def test_the_way_in_is_light(module: str) -> None:
    """Catches an import at the top of a module that costs every command, `--help` too, the seconds of numba or pyhf."""
    assert heavy_imports(f"import {module}") == set()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["validate", str(SPEC)], ["schema", "--check", str(ROOT / "schemas")]],
    ids=["help", "run-help", "validate", "schema"],
)
def test_light_commands_stay_light(arguments: list[str]) -> None:
    """Catches an import of numba, pyhf or matplotlib on the way of a command that editors and shells call often."""
    code = f"import runpy\nsys.argv = {['modelbuilder', *arguments]!r}\nrunpy.run_module('modelbuilder', run_name='__main__')"
    assert heavy_imports(code) == set()


PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]


def distribution_name(requirement: str) -> str:
    """`ruamel-yaml` for `ruamel.yaml>=0.18`."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


# Second names of a distribution that pins them to the exact release: to depend on one is to depend on the other.
COMPANIONS = {"pydantic-core": "pydantic"}


def imported_distributions() -> set[str]:
    """The distributions that the package imports from, normalised; a module that is not installed stands for itself."""
    roots = {name.split(".")[0] for path in SOURCES for name in imports_of(path)}
    owners = importlib.metadata.packages_distributions()
    third_party = roots - set(sys.stdlib_module_names) - {"modelbuilder"}
    found = {distribution_name(owner) for root in third_party for owner in owners.get(root, [root])}
    return {COMPANIONS.get(name, name) for name in found}


def test_every_import_is_a_declared_dependency() -> None:
    """Catches a module that is there only because another dependency happens to bring it along."""
    extras = PROJECT["optional-dependencies"]
    optional = [requirement for extra in extras.keys() - {"test", "dev"} for requirement in extras[extra]]
    declared = {distribution_name(requirement) for requirement in [*PROJECT["dependencies"], *optional]}
    assert imported_distributions() - declared == set()


def test_every_dependency_is_imported() -> None:
    """Catches a dependency that users install for nothing."""
    declared = {distribution_name(requirement) for requirement in PROJECT["dependencies"]}
    assert declared - imported_distributions() == set()


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_dependency_has_a_lower_bound_and_a_reason(requirement: str) -> None:
    """Catches a bound that nobody will dare to touch, because nobody wrote down what it is for."""
    assert ">=" in requirement
    lines = [line.strip() for line in PYPROJECT.splitlines()]
    assert lines[lines.index(f'"{requirement}",') - 1].startswith("# ")


def test_constants_are_the_same_everywhere() -> None:
    """Catches a constant that is changed in the theory and not in the kernels, or the other way round."""
    from modelbuilder.kinematics import _constants
    from modelbuilder.theory import constants

    assert _constants.ALPHA == constants.ALPHA
    assert _constants.HBARC2 == constants.HBARC_SQUARED
    assert _constants.ELECTRON_MASS == constants.ELECTRON_MASS
