"""Settings of every test run."""

from __future__ import annotations

import os

# The tests' matrices are small: a second thread waits more than it works, and waits by spinning,
# so that a few workers on few cores can take ten times as long. Read when numpy and torch load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

# A slow machine is no defect: no test judges how long anything takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
