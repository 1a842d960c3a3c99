"""Settings of every test run."""

from __future__ import annotations

import torch

# The tests' matrices are small: a second thread waits more than it works, and with several
# workers on few cores the waiting takes most of the time (measured: 6 min with two, 1 with one).
torch.set_num_threads(1)
