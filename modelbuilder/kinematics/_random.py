"""Random numbers of the kernels: a pure function of (key, index of the event, draw block), and so free of any order.

Draw blocks are fixed per purpose, so that a stage that is switched off moves no number of another stage, an event has
the same numbers in every variation, and no result can depend on the number of threads.
"""

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel

BLOCK = 256  # events that a stage handles at a time, structure of arrays

_MASK32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
_MULTIPLIER0 = np.uint64(0xD2511F53)
_MULTIPLIER1 = np.uint64(0xCD9E8D57)
_WEYL0 = np.uint64(0x9E3779B9)
_WEYL1 = np.uint64(0xBB67AE85)
_SHIFT12 = np.uint64(12)
_ONE_BITS = np.uint64(0x3FF0000000000000)
_ALMOST_ONE = 1.0 - 2.0**-53


@inlined
def philox_words(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Philox4x32-10: four 32-bit words from a 4 x 32-bit counter and a 2 x 32-bit key.

    Each word is in the lower half of a 64-bit integer; the upper half is rubbish, on the way and in the result.
    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, doi:10.1145/2063384.2063405.
    """
    for _ in range(10):
        product0 = _MULTIPLIER0 * (c0 & _MASK32)
        product1 = _MULTIPLIER1 * (c2 & _MASK32)
        c0 = (product1 >> _SHIFT32) ^ c1 ^ k0
        c1 = product1
        c2 = (product0 >> _SHIFT32) ^ c3 ^ k1
        c3 = product0
        k0 = k0 + _WEYL0
        k1 = k1 + _WEYL1
    return c0, c1, c2, c3


@inlined
def _open_unit(high: np.uint64, low: np.uint64) -> float:
    """The lower halves of two integers to one of the 2^52 centres of equal cells of (0, 1); never 0, never 1."""
    bits = np.uint64((((high << _SHIFT32) | (low & _MASK32)) >> _SHIFT12) | _ONE_BITS)
    return float(bits.view(np.float64) - _ALMOST_ONE)


@inlined
def uniforms(index: np.uint64, draw: np.uint64, key0: np.uint64, key1: np.uint64) -> tuple[float, float]:
    """Two uniforms in (0, 1), a pure function of the event index, the draw block and the key."""
    a, b, c, d = philox_words(index, index >> _SHIFT32, draw, np.uint64(0), key0, key1)
    return _open_unit(a, b), _open_unit(c, d)


@kernel
def philox(counter: npt.NDArray[np.uint64], key: npt.NDArray[np.uint64], words: npt.NDArray[np.uint64]) -> None:
    """Philox4x32-10 on one counter (4 words) and key (2 words), for the tests."""
    words[0], words[1], words[2], words[3] = philox_words(
        counter[0], counter[1], counter[2], counter[3], key[0], key[1]
    )
    for i in range(4):
        words[i] &= _MASK32
