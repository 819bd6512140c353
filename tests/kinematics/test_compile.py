"""The cache of compiled kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import modelbuilder.kinematics._compile as compile_module

SCALE = """from modelbuilder.kinematics._compile import inlined


@inlined
def scale(x: float) -> float:
    return {factor} * x
"""
TOTAL = """from modelbuilder.kinematics._compile import kernel
from modelbuilder.kinematics._scale import scale


@kernel
def total(n: int) -> float:
    s = 0.0
    for i in range(n):
        s += scale(float(i))
    return s


print(total(4), sum(total.stats.cache_hits.values()))
"""


def test_an_edit_in_an_imported_kernel_is_seen(tmp_path: Path) -> None:
    """Catches compiled code on disk that goes on using the old version of a function from another file."""
    package = tmp_path / "modelbuilder"
    source = Path(compile_module.__file__).parents[1]
    for name in ("__init__.py", "errors.py", "kinematics/__init__.py", "kinematics/_compile.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, package / name)
    (package / "kinematics" / "_total.py").write_text(TOTAL)

    def run(factor: int) -> list[str]:
        (package / "kinematics" / "_scale.py").write_text(SCALE.format(factor=factor))
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-c", "import modelbuilder.kinematics._total"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert run(factor=2) == ["12.0", "0"]
    assert run(factor=2) == ["12.0", "1"]  # the cache does work
    assert run(factor=3) == ["18.0", "0"]
