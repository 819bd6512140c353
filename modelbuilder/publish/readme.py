"""What a bundle says about itself, to people."""

from __future__ import annotations

from collections.abc import Sequence

from modelbuilder.publish import hepdata
from modelbuilder.publish.finished_run import FinishedRun
from modelbuilder.publish.likelihoods import (
    BACKGROUND,
    DIGITS,
    EMPTY_SAMPLE,
    INDEX,
    PATCHSET,
    REGIONS,
    UNPUBLISHED,
    Region,
    in_unit,
)
from modelbuilder.spec.load import LoadedCombination


def bundle_readme(run: FinishedRun, parts: Sequence[str]) -> str:
    """Of the whole directory. parts: archives of likelihoods that are too large for an upload."""
    spec = run.search.spec
    if parts:
        likelihoods = (
            f"| {', '.join(f'`{part}`' for part in parts)} | the likelihoods, to be deposited elsewhere: they are too large"
            f" for HEPData, which takes {hepdata.MAX_UPLOAD_BYTES // 1_000_000} MB; each has a share of the grid |\n"
        )
    else:
        likelihoods = ""
    return f"""# {spec.title}

{run.experiments}{_papers(run)}. **{run.data_text}**

| file | holds |
|---|---|
| `submission.tar.gz` | what is uploaded to HEPData: the directory `hepdata/` |
{likelihoods}| `hepdata/submission.yaml` | the list of the tables, with keywords and resources |
| `hepdata/*.yaml` | the tables: limits, significance, efficiency, systematics; {hepdata.DIGITS} significant digits |
| `likelihoods/` | the likelihoods, unpacked; its `README.md` says how to use them |

The patchsets name the paper by its number at INSPIRE; `{UNPUBLISHED}` stands for one that has none yet
(`modelbuilder publish --inspire`).
"""


def likelihoods_readme(run: FinishedRun, regions: Sequence[Region]) -> str:
    """Of the likelihoods."""
    spec = run.search.spec
    first = regions[0]
    point = first.points[0]
    number = sum(len(region.points) for region in regions)
    share = run.points_text if number == len(run.points) else f"{number} of the {run.points_text}"
    example = ", ".join(
        f"{column.name} = {value:g}" + (f" {column.unit}" if column.unit else "")
        for column, value in zip(run.grid, run.values_of(point), strict=True)
    )
    labels = ", ".join(f"`{column.name}`" for column in run.grid)
    background, patchset = first.file(BACKGROUND), first.file(PATCHSET)
    return f"""# Likelihoods: {spec.title}

{run.experiments}{_papers(run)}. **{run.data_text}**

HistFactory likelihoods in the JSON format of [pyhf](https://pyhf.readthedocs.io), for {share}. `{BACKGROUND}`
is the background and the data; each patch of `{PATCHSET}` adds the signal of one grid point.

{_layout(regions)}

* **Names.** The patch `{point}` is {example}: `p` stands for the decimal point. The values of a patch are {labels}.
* **Signal strength.** `mu` = 1 is the {run.reference.description} `{run.reference.name}`{in_unit(run.reference)}, in the metadata of the patch
  and in `{INDEX}`. Limits of the run are at {100 * run.confidence_level:g} % CL by {", ".join(run.methods)}.
{_lifetimes(run)}* **Background only.** `{BACKGROUND}` names `mu` as its parameter of interest, which only a patch brings in; alone it loads
  with `workspace.model(poi_name=None)`. A sample `{EMPTY_SAMPLE}`, if there is one, is empty: nothing is expected there.
* **Rounding.** Yields have {DIGITS} significant digits; limits from these files agree with those of the tables.
* **Provenance.** `provenance.json` has the digest of the spec, versions and seeds; `spec.resolved.yaml` is the spec.

## Use

```bash
pyhf patchset apply {background} {patchset} --name {point} --output-file {point}.json
pyhf cls {point}.json
```

or, for limits on all of them from the unpacked archive,

```bash
modelbuilder limit . --cl {run.confidence_level:g} --method {run.methods[0]}
modelbuilder limit . --patch '{point}' --json
```
"""


def _layout(regions: Sequence[Region]) -> str:
    if len(regions) == 1 and not regions[0].folder:
        return f"All grid points share one set of fit regions: there is one `{BACKGROUND}` and one `{PATCHSET}`."
    alone = sum(len(region.points) == 1 for region in regions)
    lines = [
        f"The fit regions differ: there are {len(regions)}, each with a folder of its own below `{REGIONS}/`, which holds its",
        f"`{BACKGROUND}` and `{PATCHSET}`. Grid points share a folder if edges, data and background are the same.",
        "Each folder holds one grid point and is called after it."
        if alone == len(regions)
        else f"{alone} folders hold one grid point and are called after it, the others after channel or first point.",
        f"`{INDEX}` has the folder of each grid point. Where windows overlap, likelihoods share data and must not be",
        "multiplied.",
    ]
    return "\n".join(lines)


def _lifetimes(run: FinishedRun) -> str:
    """Where one fit stands for all lifetimes: which one it has, and how to read the others."""
    lifetime = None if isinstance(run.search, LoadedCombination) else run.search.spec.signal.lifetime
    if lifetime is None or lifetime.shape_at is None:
        return ""
    return (
        f"* **Lifetimes.** The signals are at c tau = {lifetime.shape_at:g} cm. The shape is the same at all of them, so that a limit on"
        f" `mu` holds for each with its own `{run.reference.name}`, in the table of efficiencies.\n"
    )


def _papers(run: FinishedRun) -> str:
    papers = run.search.spec.papers
    return f", {', '.join(papers)}" if papers else ""
