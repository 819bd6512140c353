"""Templates and their files."""

from __future__ import annotations

import json
from typing import Any

import hist
import jsonschema
import numpy as np
import pytest
import uhi.schema
from referencing import Registry, Resource

from modelbuilder.histograms.simulate import RegionTemplates
from modelbuilder.histograms.templates import (
    SampleTemplates,
    Template,
    as_hist,
    axis_of,
    from_uhi_json,
    histograms,
    to_uhi_json,
)

AXIS = axis_of("mass2(gamma gamma)")
EDGES = np.array([0.1, 0.25, 0.7, 1.0])


def sample() -> SampleTemplates:
    def template(*values: float) -> Template:
        return Template(np.array(values), np.array(values) ** 2 / 3.0)

    return SampleTemplates(template(1.0, 2.5, 1e-12), {"scale": (template(1.5, 2.0, 0.1), template(0.5, 3.0, 0.0))})


def uhi_validator() -> Any:
    """The schema that comes with uhi. Its own validator needs a package that we do not."""
    folder = uhi.schema.histograms_file.parent  # type: ignore[attr-defined]
    documents = {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir() if path.suffix == ".json"
    }
    resources = [Resource.from_contents(document) for document in documents.values()]
    registry: Any = Registry().with_resources((str(resource.id()), resource) for resource in resources)
    schema = documents["histograms.schema.json"]
    return jsonschema.validators.validator_for(schema)(schema, registry=registry)


def test_files_read_back_as_the_same_histograms() -> None:
    """Catches a number, name, label or unit that is lost between the histogram and its file."""
    written = histograms({"signal": sample()}, np.array([3.0, 0.0, 7.0]), AXIS, EDGES)
    found = from_uhi_json(to_uhi_json(written))
    assert list(found) == ["signal", "signal/scale/up", "signal/scale/down", "observation"]
    for name, histogram in found.items():
        assert histogram == written[name]
        assert np.array_equal(histogram.axes[0].edges, EDGES)
        assert np.array_equal(histogram.values(), written[name].values())
        assert np.array_equal(histogram.variances(), written[name].variances())
    up, _ = sample().varied["scale"]
    assert np.array_equal(found["signal/scale/up"].values(), up.values)
    assert found["observation"].values().tolist() == [3.0, 0.0, 7.0]
    assert to_uhi_json(found) == to_uhi_json(written)


def test_files_are_valid_uhi() -> None:
    """Reference: catches a file that other UHI tools refuse; the schema is the one that uhi publishes."""
    validator = uhi_validator()
    text = to_uhi_json(histograms({"signal": sample()}, np.array([3.0, 0.0, 7.0]), AXIS, EDGES))
    validator.validate(json.loads(text))
    broken = json.loads(text)
    del broken["signal"]["storage"]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(broken)


def test_axes_have_names_and_units(backgrounds: dict[str, RegionTemplates]) -> None:
    """Catches an axis that only we could read: hist needs a name, a reader the unit."""
    for region in backgrounds.values():
        axis = region.region.axis
        histogram = as_hist(region.backgrounds["pi0"].nominal, axis, region.region.binning.edges)
        (found,) = histogram.axes
        assert found.name == axis.name
        assert found.name.isidentifier()
        assert found.label.endswith("[GeV^2]")
        assert found.units == "GeV^2"
        assert isinstance(histogram, hist.Hist)
        assert histogram.sum(flow=True).value == pytest.approx(region.backgrounds["pi0"].nominal.total, rel=1e-12)


def test_scaling_and_slicing() -> None:
    """Invariant: variances go with the square of a factor, variations with their nominal, and nothing is changed in place."""
    first = sample()
    scaled = first.scaled(3.0)
    assert scaled.nominal.values == pytest.approx(3.0 * first.nominal.values)
    assert scaled.nominal.variances == pytest.approx(9.0 * first.nominal.variances)
    assert scaled.varied["scale"][1].values == pytest.approx(3.0 * first.varied["scale"][1].values)
    assert scaled.nominal.total == pytest.approx(3.0 * first.nominal.total)
    part = first.sliced(slice(1, 3))
    assert part.nominal.values.tolist() == [2.5, 1e-12]
    assert part.varied["scale"][0].values.tolist() == [2.0, 0.1]
    assert np.array_equal(first.nominal.values, sample().nominal.values)
