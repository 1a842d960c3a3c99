"""Options that mean the same in every command, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curvtool.config import DType, Way, Weights

PROBLEM = "Problem: model, data and loss"
COMPUTE = "Computation"
OUTPUT = "Output"
LONG = "Long runs"

Checkpoint = Annotated[
    Path, typer.Argument(help="File or folder with the trained weights.", show_default=False)
]
Checkpoints = Annotated[
    list[Path],
    typer.Argument(
        help="Files or folders with weights of one training, in the order of the numbers in their "
        "names.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Place of the weights in the file, e.g. generator.state_dict.", rich_help_panel=PROBLEM
    ),
]
WhichWeights = Annotated[
    Weights,
    typer.Option("--weights", help="Trained, or their running average.", rich_help_panel=PROBLEM),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Load what fits, and list the rest in the report.",
        rich_help_panel=PROBLEM,
    ),
]
Problem = Annotated[
    Path | None,
    typer.Option(
        "--problem",
        help="TOML file with \\[model], \\[data] and \\[loss].",
        rich_help_panel=PROBLEM,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="mlp, cnn, gpt, torchvision:NAME, timm:NAME, hf, FILE.py:BUILD or "
        "PACKAGE.MODULE:BUILD.",
        rich_help_panel=PROBLEM,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="npz:, npy:, csv:, parquet:, arrow:, hdf5:, safetensors:, pt:, text:FILE, hf:DIR, "
        "imagefolder:DIR, webdataset:TAR, torchvision:NAME or FILE.py:DATASET.",
        rich_help_panel=PROBLEM,
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        help="cross_entropy, mse, bce (with logits), nll, huber, causal_lm, masked_lm, "
        "contrastive, hf (the model's own) or FILE.py:LOSS.",
        rich_help_panel=PROBLEM,
    ),
]
ModelKwargs = Annotated[
    list[str] | None,
    typer.Option(help="key=value for the model's builder.", rich_help_panel=PROBLEM),
]
DataKwargs = Annotated[
    list[str] | None,
    typer.Option(
        help="key=value for the data; inputs=, targets=, weights=, transforms=.",
        rich_help_panel=PROBLEM,
    ),
]
LossKwargs = Annotated[
    list[str] | None, typer.Option(help="key=value for the loss.", rich_help_panel=PROBLEM)
]
Output = Annotated[
    str | None,
    typer.Option(
        help="Which of several outputs of the model the loss reads: name or place.",
        rich_help_panel=PROBLEM,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Examples a batch; H does not depend on it.", rich_help_panel=PROBLEM),
]
MaxExamples = Annotated[
    int | None, typer.Option(min=1, help="Use a seeded subset of N.", rich_help_panel=PROBLEM)
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run code that came with the checkpoint: named by its spec, or a program.",
        rich_help_panel=PROBLEM,
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Let torchvision fetch data not on disk.", rich_help_panel=PROBLEM
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        help="Pattern of parameters to differentiate, e.g. 'blocks.0.*'.", rich_help_panel=PROBLEM
    ),
]
WeightDecay = Annotated[
    float, typer.Option(min=0.0, help="W: adds W * I to H.", rich_help_panel=PROBLEM)
]
TrainMode = Annotated[
    bool,
    typer.Option("--train-mode", help="Model in train mode, not eval.", rich_help_panel=PROBLEM),
]
SkipUnused = Annotated[
    bool,
    typer.Option(
        "--skip-unused",
        help="Leave out parameters that the loss never reaches.",
        rich_help_panel=PROBLEM,
    ),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=COMPUTE)]
Precision = Annotated[
    DType, typer.Option("--dtype", help="Of parameters and vectors.", rich_help_panel=COMPUTE)
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Memory to use, e.g. 8GiB.",
        show_default="60 % of what is free",
        rich_help_panel=COMPUTE,
    ),
]
Hvp = Annotated[Way, typer.Option(help="Way to make a product.", rich_help_panel=COMPUTE)]
Seed = Annotated[
    int,
    # NumPy's generators take 32 bits.
    typer.Option(min=0, max=2**32 - 1, help="Of every random draw.", rich_help_panel=COMPUTE),
]

Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        help="Run file.",
        show_default="CHECKPOINT.COMMAND.h5 here",
        rich_help_panel=OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace an output of another run.", rich_help_panel=OUTPUT),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue from the saved state; the same command does so anyway.",
        rich_help_panel=LONG,
    ),
]
SaveEvery = Annotated[
    str | None,
    typer.Option(
        help="Save the state so often, e.g. 5m; 0 for every product, off for never.",
        show_default="60s",
        rich_help_panel=LONG,
    ),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        help="Save and leave after so long, e.g. 2h or 30m, with exit code 75.",
        rich_help_panel=LONG,
    ),
]
ShardParams = Annotated[
    bool,
    typer.Option(
        "--shard-params",
        help="Under torchrun or srun: no process ever holds all parameters.",
        rich_help_panel=LONG,
    ),
]
RankTimeout = Annotated[
    str | None,
    typer.Option(
        help="Under torchrun or srun: end the job when a process hangs so long.",
        show_default="30m",
        rich_help_panel=LONG,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Every pair in the table.", rich_help_panel=OUTPUT),
]
