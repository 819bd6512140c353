"""Every error that modelbuilder raises on purpose.

    ModelBuilderError
    ├── UserError                  the input is at fault: exit code 2
    │   ├── SpecError              one or more problems in a spec (also ValueError)
    │   ├── InputFileError         a file that is missing or unreadable (also OSError)
    │   ├── KinematicsError        an impossible process or observable (also ValueError)
    │   ├── WorkspaceError         a workspace that is not usable (also ValueError)
    │   │   └── UnusableNumberError    with a number that no likelihood can use
    │   ├── ArchiveError           an archive that is not safe, or not readable (also ValueError)
    │   └── RunDirectoryError      a run directory that belongs to something else (also ValueError)
    ├── BundleError                what would be published is not what was run (also ValueError)
    └── FitFailure                 a fit that did not converge (also RuntimeError)

An error says where, what was found, and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass


class ModelBuilderError(Exception):
    """Base class of all errors raised on purpose; `exit_code` is that of the command line."""

    exit_code = 1


class UserError(ModelBuilderError):
    """The user's input is at fault."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One fault in a spec: where it stands, and what to do about it.

    file, line, column: the place of the fault, counted from 1 (0 where there is no line, as for `--set`).
    path: the place within the spec, such as `signal.efficiency.table`.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class SpecError(UserError, ValueError):
    """One or more problems in a spec, all of them at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InputFileError(UserError, OSError):
    """A file that is missing, unreadable, too large, or not what its name says."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class KinematicsError(UserError, ValueError):
    """A process, decay, cut or observable that is not possible."""


class WorkspaceError(UserError, ValueError):
    """A workspace that cannot be built, loaded or used."""


class UnusableNumberError(WorkspaceError):
    """A workspace with a number that no likelihood can use, such as a factor of 0, whatever pyhf makes of it."""


class ArchiveError(UserError, ValueError):
    """An archive that is not safe to unpack, or cannot be read."""


class RunDirectoryError(UserError, ValueError):
    """A run directory that belongs to another spec, or is not a run directory."""


class BundleError(ModelBuilderError, ValueError):
    """What would be published does not say what was run, or is not what HEPData takes."""


class FitFailure(ModelBuilderError, RuntimeError):
    """A fit that did not converge, or a limit that does not exist. `reason` is a short fixed name for tables."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")

    def __reduce__(self) -> tuple[type[FitFailure], tuple[str, str]]:
        return type(self), (self.reason, self.detail)
