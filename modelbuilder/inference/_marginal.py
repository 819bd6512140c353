"""-2 ln L at many points of one model, for integrals over its parameters."""

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._model import SIDE, VALUE, Data, evaluate, make_work, unpack
from modelbuilder.kinematics._compile import kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@kernel
def values_packed(
    integers: Integers,
    floats: Floats,
    counts: Floats,
    auxiliary: Floats,
    local_auxiliary: Floats,
    points: Floats,
    values: Floats,
) -> None:
    """-2 ln L, less its constant, at each row of `points`; infinite where the data are impossible."""
    m = unpack(integers, floats)
    w = make_work(m)
    data = Data(counts, auxiliary, local_auxiliary)
    for row in range(points.shape[0]):
        x = points[row]
        for i in range(m.sizes[0]):
            w.vectors[SIDE, i] = 1.0 if x[i] >= 0.0 else -1.0
        values[row] = evaluate(m, w, x, data, VALUE)
