"""Options of the commands that solve for eigenpairs."""

from __future__ import annotations

from typing import Annotated

import typer

from curvtool.config import Certify, Which

SOLVER = "Solver"

TopK = Annotated[
    int | None,
    typer.Option("-k", "--top-k", min=1, help="Eigenvalues to find.", show_default="20"),
]
End = Annotated[
    Which,
    typer.Option(
        help="LM largest in magnitude, LA largest, SA most negative, BE both ends.",
        metavar="LM|LA|SA|BE",
        case_sensitive=False,
    ),
]
Tol = Annotated[
    float | None,
    typer.Option(
        help="Relative tolerance; given and not met, it ends with exit code 3.",
        show_default="1e-4 on values, 1e-3 on vectors",
    ),
]
Basis = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Lanczos vectors to hold.",
        show_default="3 k, at least k + 40",
        rich_help_panel=SOLVER,
    ),
]
CertifyBy = Annotated[
    Certify,
    typer.Option(
        help="full: a float64 product for every pair; auto: for those that need one.",
        rich_help_panel=SOLVER,
    ),
]
