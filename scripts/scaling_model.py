"""Products of large models on many GPUs, on paper: prints the tables of docs/scaling.md.

Nothing here is measured but the prices of a product in gradients. Letters as in that page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Hardware: published figures of an H100 SXM, and what of them is taken to be reached.
FLOPS = 67e12 * 0.6  # float32 outside of tensor cores, TF32 off
MEMORY = 80e9 * 0.9  # bytes
NVLINK = 450e9 * 0.8  # bytes a second and direction, within a node of 8
NETWORK = 8 * 50e9 * 0.8  # of a node's eight cards of 400 Gb/s, through all of which a ring passes
STEP = 3e-6  # seconds that a ring needs for each of its ranks
NODE = 8

# The tool: products in gradients, measured on CPUs (README, scripts/bench_sharding.py).
REBUILT = 3.2
SHARDED = 3.7
CHECKPOINTED = 1.0  # one more dual forward pass
VECTORS = 6  # of P numbers that a data parallel rank holds: theta, v, H v and three on the way
PARTS = 3  # theta, v, H v of a rank where parameters are shared out
LAYERS_AT_ONCE = 6  # of one call's parameters
BASES = (63, 35)  # vectors of a solve for the top 20: a usual basis, and the least that is allowed
NUMBER = 4  # bytes
HELD = 3  # an activation, its derivative, and what graphs keep beside them

TOKENS = 2**20  # of the dataset
TOKENS_A_GPU = 2**13  # for weak scaling
CONTEXT = 512
SPECTRUM = 100  # products of a top 20
TRACE = 300  # products of a trace to 1 %, where |H|_F / tr H is 1/16
SIZES = (8, 64, 256, 1024)
# Name, whether parameters are shared out, whether blocks' activations are computed again.
WAYS = (
    ("data parallel", False, False),
    ("shared out", True, False),
    ("shared out, blocks made again*", True, True),
)


@dataclass(frozen=True)
class Model:
    """A transformer.

    Attributes:
        name: for the tables.
        L: blocks.
        h: width.
        a: heads.
        V: tokens of the vocabulary.
    """

    name: str
    L: int
    h: int
    a: int
    V: int = 50_000

    @property
    def P(self) -> int:
        """Parameters."""
        return 12 * self.L * self.h**2 + self.V * self.h

    @property
    def largest(self) -> int:
        """Numbers of the largest tensor."""
        return max(4 * self.h**2, self.V * self.h)

    @property
    def gradient(self) -> float:
        """Operations of a gradient for each token."""
        return 6 * self.P + 12 * self.L * self.h * CONTEXT

    @property
    def of_block(self) -> float:
        """Bytes of one block's activations for each token."""
        return HELD * NUMBER * (17 * self.h + 2.5 * self.a * CONTEXT)

    def activations(self, *, checkpointed: bool) -> float:
        """Bytes of all activations for each token."""
        if checkpointed:
            return self.of_block + 2 * NUMBER * self.L * self.h
        return self.L * self.of_block


MODELS = (
    Model("1.3 B", 24, 2048, 16),
    Model("6.7 B", 32, 4096, 32),
    Model("13 B", 40, 5120, 40),
    Model("30 B", 48, 7168, 56),
    Model("65 B", 80, 8192, 64),
)


@dataclass(frozen=True)
class Product:
    """What one product takes on each GPU.

    Attributes:
        static: bytes beside activations.
        batches: that a GPU's tokens come in.
        moved: bytes that pass through each GPU.
        compute: seconds.
        move: seconds.
    """

    static: float
    batches: int
    moved: float
    compute: float
    move: float

    @property
    def seconds(self) -> float:
        """Of a product: nothing overlaps."""
        return self.compute + self.move


def bandwidth(W: int) -> float:
    """Bytes a second of a ring."""
    return NVLINK if W <= NODE else NETWORK


def product(
    m: Model, W: int, tokens: int, basis: int, *, sharded: bool, checkpointed: bool
) -> Product | float:
    """The cost of a product; the bytes that would be needed where it does not fit."""
    of_basis = basis * NUMBER * m.P / W
    if sharded:
        static = of_basis + PARTS * NUMBER * m.P / W + LAYERS_AT_ONCE * NUMBER * m.largest
    else:
        static = of_basis + VECTORS * NUMBER * m.P
    sequence = CONTEXT * m.activations(checkpointed=checkpointed)
    if static + sequence > MEMORY:
        return static + sequence
    each = math.ceil(tokens / CONTEXT / W)
    batches = math.ceil(each / ((MEMORY - static) // sequence))
    price = (SHARDED if sharded else REBUILT) + CHECKPOINTED * checkpointed
    gathers = (5 + 2 * checkpointed) * batches if sharded else 2
    moved = gathers * NUMBER * m.P * (W - 1) / W
    calls = gathers * (9 * m.L if sharded else 1)
    return Product(
        static,
        batches,
        moved,
        price * m.gradient * each * CONTEXT / FLOPS,
        moved / bandwidth(W) + calls * STEP * W,
    )


def table(tokens_of: str) -> None:
    """Rows for all models and sizes; `tokens_of` is "strong" or "weak"."""
    print(
        "| parameters | GPUs | way | GB a GPU beside activations | batches | GB moved a product "
        "| s a product | of it moving | products/h | h for a top 20 | h for a 1 % trace |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for m in MODELS:
        for W in SIZES:
            tokens = TOKENS if tokens_of == "strong" else TOKENS_A_GPU * W
            way, found = best(m, W, tokens)
            if not isinstance(found, Product):
                print(f"| {m.name} | {W} | does not fit: {found / 1e9:,.0f} GB | | | | | | | | |")
                continue
            print(
                f"| {m.name} | {W} | {way} | {found.static / 1e9:.1f} | {found.batches} | "
                f"{found.moved / 1e9:,.0f} | {found.seconds:.3g} | "
                f"{100 * found.move / found.seconds:.0f} % | {3600 / found.seconds:,.0f} | "
                f"{SPECTRUM * found.seconds / 3600:.2g} | {TRACE * found.seconds / 3600:.2g} |"
            )


def best(m: Model, W: int, tokens: int) -> tuple[str, Product | float]:
    """The fastest way that fits; the least memory where none does."""
    found: dict[str, Product | float] = {}
    for basis in BASES:
        least = "" if basis == BASES[0] else ", least basis"
        for way, sharded, checkpointed in WAYS:
            found[way + least] = product(
                m, W, tokens, basis, sharded=sharded, checkpointed=checkpointed
            )
        fits = {way: p for way, p in found.items() if isinstance(p, Product)}
        if fits:
            way = min(fits, key=lambda way: fits[way].seconds)
            return way, fits[way]
    return "", min(p for p in found.values() if not isinstance(p, Product))


def main() -> None:
    """Print both tables."""
    print(f"Strong scaling: {TOKENS:,} tokens in sequences of {CONTEXT}\n")
    table("strong")
    print(f"\nWeak scaling: {TOKENS_A_GPU:,} tokens a GPU\n")
    table("weak")


if __name__ == "__main__":
    main()
