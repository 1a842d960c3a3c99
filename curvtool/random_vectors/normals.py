"""Standard normal numbers from random words, by the same bits on every machine.

Word i, 64 uniform bits, gives the numbers 2i and 2i + 1 by Box and Muller's transformation
(r cos a, r sin a). Libraries' logarithms, sines and normal numbers differ in their last bits from
version to version and from processor to processor. So only +, -, *, / and sqrt are used here, which
IEEE 754 rounds in one way, and NumPy never fuses two of them: series of the logarithm and of sine
and cosine, cut where the dtype's rounding hides the rest.

Letters: n words; u = (w + 1/2) / 2^32 is uniform, w the upper half of a word; r = sqrt(-2 ln u);
a the angle, from the lower half.

References:
    Box, Muller (1958), A note on the generation of random normal deviates.
"""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

# Words that are worked on at once: few calls, and scratch that stays in a core's cache. At 2^12
# words the calls cost as much as the arithmetic.
AT_ONCE = 2**15
HALF_TURN = math.pi * 2.0**-32  # of an angle in [-pi/2, pi/2), given in 2^32 parts


@final
class Normals:
    """Makes normal numbers of one dtype; not to be shared by threads.

    The numbers of float32 are those of float64 up to rounding: 1e-6 at most, where single ones
    reach 6.7. That is the largest: 2^-33 is the least u.

    Args:
        double: whether float64 is made, else float32.
        most: n that it will be given, at most.
    """

    def __init__(self, *, double: bool, most: int) -> None:
        self.dtype: Any = np.float64 if double else np.float32
        self._whole: Any = np.int64 if double else np.int32
        self._mantissa_bits, self._bias = (52, 1022) if double else (23, 126)
        # Of ln(1 + t) = 2 sum y^(2k+1) / (2k+1), y = t / (2 + t) in [-1/3, 0]: the rest is 2e-17
        # and 1e-8 of it. Of sin a and cos a up to pi/2: at most 3e-16, and 6e-8.
        logarithm, sine, cosine = (16, 10, 11) if double else (7, 6, 7)
        self._logarithm = self._numbers([-4 / (2 * k + 1) for k in range(logarithm)])
        self._sine = self._numbers([_alternating(k, 2 * k + 1) for k in range(sine)])
        self._cosine = self._numbers([_alternating(k, 2 * k) for k in range(cosine)])
        self._floats = [np.empty(most, self.dtype) for _ in range(5)]
        self._ints = [np.empty(most, np.int32) for _ in range(2)]
        self._mask = np.empty(most, self._whole)

    def __call__(self, words: NDArray[np.uint64], out: NDArray[Any]) -> None:
        """Write two numbers for each word.

        Args:
            words: uniform bits, shape (n,), n at most `most`.
            out: shape (2n,).
        """
        n = len(words)
        upper, lower = (each[:n] for each in self._ints)
        halves = words.astype("<u8", copy=False).view("<i4").reshape(n, 2)
        np.copyto(lower, halves[:, 0])
        np.copyto(upper, halves[:, 1])
        radius, a, b, c, d = (each[:n] for each in self._floats)
        self._square_of_radius(upper, radius, a, b, c, self._mask[:n])
        np.sqrt(radius, out=radius)
        # The lower word's first bit says in which half of the plane the point lies.
        self._negate(radius, lower, self._mask[:n], upper)
        np.left_shift(lower, 1, out=lower)
        np.copyto(a, lower, casting="unsafe")
        np.multiply(a, self.dtype(HALF_TURN), out=a)
        np.multiply(a, a, out=b)
        _polynomial(b, self._cosine, c)
        np.multiply(c, radius, out=out[0::2])
        _polynomial(b, self._sine, d)
        np.multiply(d, a, out=d)
        np.multiply(d, radius, out=out[1::2])

    def _square_of_radius(
        self,
        upper: NDArray[np.int32],
        out: NDArray[Any],
        a: NDArray[Any],
        b: NDArray[Any],
        c: NDArray[Any],
        mask: NDArray[Any],
    ) -> None:
        """-2 ln u = -2 (e ln 2 + ln(1 + t)) with u = 2^e (1 + t), t in [-1/2, 0).

        As a signed number the word is 2^32 u, or 2^32 (u - 1) where u >= 1/2: then t is u - 1
        without any rounding, however close u is to 1.
        """
        whole, number = self._whole, self.dtype
        np.copyto(a, upper, casting="unsafe")
        np.add(a, number(0.5), out=a)
        a_bits, b_bits, c_bits = a.view(whole), b.view(whole), c.view(whole)
        np.right_shift(a_bits, 8 * a.itemsize - 1, out=mask)  # all bits where u >= 1/2
        np.bitwise_and(a_bits, whole((1 << self._mantissa_bits) - 1), out=b_bits)
        np.bitwise_or(b_bits, whole(self._bias << self._mantissa_bits), out=b_bits)
        np.subtract(b, number(1), out=b)
        np.right_shift(a_bits, self._mantissa_bits, out=c_bits)
        np.subtract(c_bits, whole(self._bias + 32), out=c_bits)
        np.multiply(a, number(2.0**-32), out=a)
        # t: of a where the mask is set, else of b. e: 0 where it is set, else of c.
        np.bitwise_xor(a_bits, b_bits, out=a_bits)
        np.bitwise_and(a_bits, mask, out=a_bits)
        np.bitwise_xor(a_bits, b_bits, out=a_bits)
        np.invert(mask, out=mask)
        np.bitwise_and(c_bits, mask, out=mask)
        np.copyto(out, mask, casting="unsafe")
        np.multiply(out, number(-2 * math.log(2)), out=out)
        np.add(a, number(2), out=b)
        np.divide(a, b, out=a)
        np.multiply(a, a, out=b)
        _polynomial(b, self._logarithm, c)
        np.multiply(c, a, out=c)
        np.add(out, c, out=out)

    def _negate(
        self,
        numbers: NDArray[Any],
        where: NDArray[np.int32],
        wide: NDArray[Any],
        narrow: NDArray[np.int32],
    ) -> None:
        """Give numbers >= 0 the sign of the words."""
        if self._whole is np.int32:
            np.bitwise_and(where, np.int32(-(2**31)), out=narrow)
            np.bitwise_xor(numbers.view(np.int32), narrow, out=numbers.view(np.int32))
        else:
            np.copyto(wide, where)
            np.bitwise_and(wide, np.int64(-(2**63)), out=wide)
            np.bitwise_xor(numbers.view(np.int64), wide, out=numbers.view(np.int64))

    def _numbers(self, coefficients: list[float]) -> list[Any]:
        return [self.dtype(each) for each in coefficients]


def _alternating(k: int, n: int) -> float:
    """(-1)^k / n!."""
    return (1 if k % 2 == 0 else -1) / math.factorial(n)


def _polynomial(x: NDArray[Any], coefficients: list[Any], out: NDArray[Any]) -> None:
    """Horner's scheme, lowest coefficient first."""
    np.multiply(x, coefficients[-1], out=out)
    np.add(out, coefficients[-2], out=out)
    for coefficient in coefficients[-3::-1]:
        np.multiply(out, x, out=out)
        np.add(out, coefficient, out=out)
