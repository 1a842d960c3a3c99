"""User code that draws random numbers draws the same ones each time, and disturbs nobody's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators inside; restore all three after.

    A model whose constructor draws a buffer that the checkpoint does not hold, or a dataset with
    random augmentation, is so the same in every run.

    Args:
        seed: any whole number of at least 0.

    Yields:
        Nothing.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
