"""HistFactory workspaces in the HEP Statistics Serialization Standard (HS3), in the dialects of two programs.

`root`: what ROOT 6.40 reads (RooJSONFactoryWSTool). `pyhs3`: what pyhs3 0.4 reads. They agree on normfactor, normsys,
histosys and lumi; they differ in the data of `shapesys` (relative to the yield in ROOT, absolute in pyhs3) and in where the
constraint of `staterror` is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from modelbuilder import __version__
from modelbuilder.errors import BundleError, WorkspaceError
from modelbuilder.workspace.files import read_json

Dialect = Literal["root", "pyhs3"]
DIALECTS = get_args(Dialect)
VERSION = "0.2.0"
LUMI = "Lumi"
_BOUND = 5.0  # of parameters with a unit constraint, as in pyhf
_GAMMA_BOUNDS = (1e-10, 10.0)
_NORM_BOUNDS = (0.0, 10.0)

Json = dict[str, Any]


def to_hs3(workspace: Mapping[str, Any], dialect: Dialect) -> Json:
    """The first measurement of a pyhf workspace as an HS3 document. Raises WorkspaceError for what it cannot hold."""
    return _Writer(workspace, dialect).document()


def from_hs3(document: Mapping[str, Any], dialect: Dialect) -> Json:
    """A document of `to_hs3` as a pyhf workspace; not a reader of any HS3."""
    return _Reader(document, dialect).workspace()


def write_hs3(path: Path, workspace: Mapping[str, Any], dialect: Dialect) -> None:
    """Write, read back and compare. Raises BundleError if the likelihood is another one."""
    from modelbuilder.inference.choice import open_likelihood
    from modelbuilder.publish.verify import difference

    text = json.dumps(to_hs3(workspace, dialect), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    again, _ = open_likelihood(from_hs3(read_json(path), dialect))
    direct, _ = open_likelihood(workspace)
    try:
        difference(direct, again, where=path.name)
    except BundleError:
        path.unlink()
        raise


@dataclass(frozen=True)
class _Parameter:
    """A parameter of the document, with the values it starts at and may have."""

    name: str
    value: float
    low: float
    high: float
    fixed: bool


class _Writer:
    def __init__(self, workspace: Mapping[str, Any], dialect: Dialect) -> None:
        self.dialect = dialect
        self.channels = workspace["channels"]
        measurement = workspace["measurements"][0]
        self.name, self.poi = measurement["name"], measurement["config"]["poi"]
        self.settings = {item["name"]: item for item in measurement["config"]["parameters"]}
        self.observed = {item["name"]: item["data"] for item in workspace["observations"]}
        self.parameters: dict[str, _Parameter] = {}
        self.constants: dict[str, float] = {}
        self.constraints: dict[str, Json] = {}
        self.widths: dict[tuple[str, str], list[float]] = {}

    def document(self) -> Json:
        distributions = [self._channel(channel) for channel in self.channels]
        data = [
            {
                "name": f"obsData_{channel['name']}",
                "type": "binned",
                "axes": [_axis(channel)],
                "contents": _floats(self.observed[channel["name"]]),
            }
            for channel in self.channels
        ]
        points = [
            {"name": item.name, "value": item.value, **({"const": True} if item.fixed else {})}
            for item in self.parameters.values()
        ]
        points += [{"name": name, "value": value, "const": True} for name, value in self.constants.items()]
        axes = [{"name": item.name, "min": item.low, "max": item.high} for item in self.parameters.values()]
        likelihood: Json = {
            "name": "likelihood",
            "distributions": [item["name"] for item in distributions],
            "data": [item["name"] for item in data],
        }
        if self.constraints:
            likelihood["aux_distributions"] = list(self.constraints)
        return {
            "metadata": {
                "hs3_version": VERSION,
                "packages": [{"name": "modelbuilder", "version": __version__}],
                "description": f"dialect {self.dialect}",
            },
            "distributions": [*distributions, *self.constraints.values()],
            "data": data,
            "likelihoods": [likelihood],
            "domains": [{"name": "default_domain", "type": "product_domain", "axes": axes}],
            "parameter_points": [{"name": "default_values", "parameters": points}],
            "analyses": [
                {
                    "name": self.name,
                    "likelihood": "likelihood",
                    "domains": ["default_domain"],
                    "parameters_of_interest": [self.poi],
                    "init": "default_values",
                }
            ],
        }

    def _channel(self, channel: Mapping[str, Any]) -> Json:
        samples = []
        statistical = False
        for sample in channel["samples"]:
            contents: Json = {"contents": _floats(sample["data"])}
            modifiers = []
            for modifier in sample["modifiers"]:
                modifiers.append(_WRITERS[modifier["type"]](self, channel, sample, modifier))
                if modifier["type"] == "staterror":
                    if "errors" in contents:
                        msg = f"{channel['name']}/{sample['name']}: two staterror modifiers; HS3 has room for one"
                        raise WorkspaceError(msg)
                    contents["errors"] = _floats(modifier["data"])
                    statistical = True
            samples.append({"name": sample["name"], "data": contents, "modifiers": modifiers})
        found: Json = {
            "name": f"model_{channel['name']}",
            "type": "histfactory_dist",
            "axes": [_axis(channel)],
            "samples": samples,
        }
        if statistical and self.dialect == "root":  # or ROOT takes a Poisson constraint, whatever the modifiers say
            found["staterror"] = {"constraint_type": "Gauss"}
        return found

    def _add(self, name: str, pyhf_name: str, init: float, bounds: Sequence[float], index: int = 0) -> None:
        setting = self.settings.get(pyhf_name, {})
        inits, limits = setting.get("inits", ()), setting.get("bounds", ())
        low, high = limits[index if len(limits) > index else 0] if limits else bounds
        value = inits[index if len(inits) > index else 0] if inits else init
        fixed = bool(setting.get("fixed", False))
        self.parameters[name] = _Parameter(name, float(value), float(low), float(high), fixed)

    def _gauss(self, name: str, centre: float, sigma: float) -> str:
        """A Gaussian constraint on a parameter; returns its name."""
        self.constants[f"nom_{name}"] = centre
        constraint = f"{name}Constraint"
        self.constraints[constraint] = {
            "name": constraint, "type": "gaussian_dist", "x": name, "mean": f"nom_{name}", "sigma": sigma,
        }  # fmt: skip
        return constraint

    def _normfactor(self, channel: Json, sample: Json, modifier: Json) -> Json:
        del channel, sample
        self._add(modifier["name"], modifier["name"], 1.0, _NORM_BOUNDS)
        return {"name": modifier["name"], "type": "normfactor", "parameter": modifier["name"]}

    def _lumi(self, channel: Json, sample: Json, modifier: Json) -> Json:
        del channel, sample
        setting = self.settings[modifier["name"]]
        centre, sigma = float(setting["auxdata"][0]), float(setting["sigmas"][0])
        self._add(LUMI, modifier["name"], centre, (centre - _BOUND * sigma, centre + _BOUND * sigma))
        constraint = self._gauss(LUMI, centre, sigma)
        return {"name": LUMI, "type": "normfactor", "parameter": LUMI, "constraint_name": constraint}

    def _alpha(self, modifier: Json) -> Json:
        name = f"alpha_{modifier['name']}"
        self._add(name, modifier["name"], 0.0, (-_BOUND, _BOUND))
        constraint = self._gauss(name, 0.0, 1.0)
        return {
            "name": modifier["name"], "type": modifier["type"], "parameter": name, "constraint": "Gauss",
            "constraint_name": constraint,
        }  # fmt: skip

    def _normsys(self, channel: Json, sample: Json, modifier: Json) -> Json:
        del channel, sample
        data = modifier["data"]
        return {**self._alpha(modifier), "data": {"hi": float(data["hi"]), "lo": float(data["lo"])}}

    def _histosys(self, channel: Json, sample: Json, modifier: Json) -> Json:
        del channel, sample
        sides = {side: {"contents": _floats(modifier["data"][f"{side}_data"])} for side in ("hi", "lo")}
        return {**self._alpha(modifier), "data": sides}

    def _gammas(self, channel: Json, modifier: Json) -> list[str]:
        names = [f"gamma_{modifier['name']}_bin_{index}" for index in range(len(channel["samples"][0]["data"]))]
        for index, name in enumerate(names):
            self._add(name, modifier["name"], 1.0, _GAMMA_BOUNDS, index)
        return names

    def _staterror(self, channel: Json, sample: Json, modifier: Json) -> Json:
        del sample
        names = self._gammas(channel, modifier)
        return {
            "name": modifier["name"], "type": "staterror", "parameters": names, "constraint": "Gauss",
            **({"constraint_type": "Gauss"} if self.dialect == "root" else {}),
        }  # fmt: skip

    def _shapesys(self, channel: Json, sample: Json, modifier: Json) -> Json:
        names = self._gammas(channel, modifier)
        values = _floats(modifier["data"])
        if self.dialect == "root":
            values = [value / size if size > 0.0 else 0.0 for value, size in zip(values, sample["data"], strict=True)]
        return {
            "name": modifier["name"], "type": "shapesys", "parameters": names, "constraint": "Poisson",
            **({"constraint_type": "Poisson"} if self.dialect == "root" else {}), "data": {"vals": values},
        }  # fmt: skip

    def _shapefactor(self, channel: Json, sample: Json, modifier: Json) -> Json:
        del sample
        names = [f"{modifier['name']}_bin_{index}" for index in range(len(channel["samples"][0]["data"]))]
        for index, name in enumerate(names):
            self._add(name, modifier["name"], 1.0, _NORM_BOUNDS, index)
        return {"name": modifier["name"], "type": "shapefactor", "parameters": names}


_WRITERS: dict[str, Callable[[_Writer, Any, Any, Any], Json]] = {
    "normfactor": _Writer._normfactor,
    "lumi": _Writer._lumi,
    "normsys": _Writer._normsys,
    "histosys": _Writer._histosys,
    "staterror": _Writer._staterror,
    "shapesys": _Writer._shapesys,
    "shapefactor": _Writer._shapefactor,
}


class _Reader:
    def __init__(self, document: Mapping[str, Any], dialect: Dialect) -> None:
        self.document, self.dialect = document, dialect
        self.by_name = {item["name"]: item for item in document["distributions"]}
        (points,) = document["parameter_points"]
        self.points = {item["name"]: item for item in points["parameters"]}
        (domain,) = document["domains"]
        self.axes = {item["name"]: item for item in domain["axes"]}
        self.settings: dict[str, Json] = {}

    def workspace(self) -> Json:
        (analysis,) = self.document["analyses"]
        (likelihood,) = self.document["likelihoods"]
        data = {item["name"]: item for item in self.document["data"]}
        channels, observations = [], []
        for model, observed in zip(likelihood["distributions"], likelihood["data"], strict=True):
            name = model.removeprefix("model_")
            channels.append({"name": name, "samples": [self._sample(item) for item in self.by_name[model]["samples"]]})
            observations.append({"name": name, "data": data[observed]["contents"]})
        (poi,) = analysis["parameters_of_interest"]
        config = {"poi": poi, "parameters": list(self.settings.values())}
        return {
            "channels": channels,
            "measurements": [{"name": analysis["name"], "config": config}],
            "observations": observations,
            "version": "1.0.0",
        }

    def _sample(self, sample: Mapping[str, Any]) -> Json:
        modifiers = [dict(self._modifier(sample, modifier)) for modifier in sample["modifiers"]]
        return {"name": sample["name"], "data": sample["data"]["contents"], "modifiers": modifiers}

    def _modifier(self, sample: Mapping[str, Any], modifier: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        kind, name = modifier["type"], modifier["name"]
        names = modifier.get("parameters") or [modifier["parameter"]]
        data: Any = None
        if kind == "normfactor" and names == [LUMI]:
            kind = name = "lumi"
        elif kind == "normsys":
            data = modifier["data"]
        elif kind == "histosys":
            data = {f"{side}_data": modifier["data"][side]["contents"] for side in ("hi", "lo")}
        elif kind == "staterror":
            data = sample["data"]["errors"]
        elif kind == "shapesys":
            data = modifier["data"]["vals"]
            if self.dialect == "root":
                data = [value * size for value, size in zip(data, sample["data"]["contents"], strict=True)]
        self._setting(name, kind, names)
        yield from (("name", name), ("type", kind), ("data", data))

    def _setting(self, name: str, kind: str, parameters: Sequence[str]) -> None:
        inits = [self.points[parameter]["value"] for parameter in parameters]
        bounds = [[self.axes[parameter]["min"], self.axes[parameter]["max"]] for parameter in parameters]
        found: Json = {"name": name, "inits": inits, "bounds": bounds}
        if self.points[parameters[0]].get("const", False):
            found["fixed"] = True
        if kind == "lumi":
            constraint = self.by_name[f"{LUMI}Constraint"]
            found |= {"auxdata": [self.points[constraint["mean"]]["value"]], "sigmas": [constraint["sigma"]]}
        self.settings[name] = found


def _axis(channel: Mapping[str, Any]) -> Json:
    n_bins = len(channel["samples"][0]["data"])
    return {"name": f"obs_{channel['name']}", "min": 0.0, "max": float(n_bins), "nbins": n_bins}


def _floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]
