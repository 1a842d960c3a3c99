"""What torchrun and srun leave in the environment."""

from __future__ import annotations

import pytest

from curvtool.distributed.launch import Launch, first_host, launched
from curvtool.errors import UsageError

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29511",
}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "gpu[017-019]",
    "SLURM_JOB_ID": "41",
    "SLURM_STEP_ID": "2",
}


def test_torchrun() -> None:
    assert launched(TORCHRUN) == Launch(5, 8, 1, 4, "node1", 29511)


def test_srun() -> None:
    assert launched(SRUN) == Launch(3, 5, 1, 2, "gpu017", 20043)


def test_an_address_of_the_user_comes_first() -> None:
    found = launched({**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    assert found is not None
    assert (found.address, found.port) == ("10.0.0.1", 4000)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        # The script of a batch job has a number of tasks, and is none of them.
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_a_process_of_its_own(environment: dict[str, str]) -> None:
    assert launched(environment) is None


@pytest.mark.parametrize("wrong", [{"RANK": "8"}, {"WORLD_SIZE": "x"}, {"MASTER_PORT": ""}])
def test_what_makes_no_sense_is_a_sentence(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="torchrun"):
        launched({**TORCHRUN, **wrong})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("node[07-09,12],other3", "node07"),
        ("a-b[3]", "a-b3"),
        ("x1,x2", "x1"),
        ("", "127.0.0.1"),
    ],
)
def test_first_host(hosts: str, first: str) -> None:
    assert first_host(hosts) == first
