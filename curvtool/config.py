"""What a run is asked to do: frozen, checked without opening anything, stored whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from curvtool.errors import UsageError

Which = Literal["LM", "LA", "SA", "BE"]
Method = Literal["auto", "dense", "lanczos", "power", "eigsh", "lobpcg"]
TraceMethod = Literal["auto", "dense", "hutchinson", "hutch++", "xtrace"]
Probes = Literal["rademacher", "gaussian"]
Sharing = Literal["auto", "per-batch", "shared"]
Accuracy = Literal["values", "vectors"]
Certify = Literal["auto", "full"]
Weights = Literal["model", "ema"]
DType = Literal["float32", "float64"]
BasisDevice = Literal["auto", "cpu", "disk"]
BasisDType = Literal["auto", "bfloat16"]
Way = Literal[
    "auto",
    "retained-graph",
    "compiled",
    "linearized",
    "reverse-over-reverse",
    "forward-over-reverse",
    "reverse-over-forward",
    "double-vjp",
    "finite-difference",
]

DEFAULT_TOP_K = 20
DEFAULT_MAX_HVPS = 2000
DEFAULT_ROUNDS = 7
DEFAULT_REL_ERR = 0.01
DEFAULT_CONFIDENCE = 0.95
DEFAULT_TRACE_HVPS = 10_000
DEFAULT_DIAG_REL_ERR = 0.2
DEFAULT_PROBES = 4
DEFAULT_STEPS = 40
DEFAULT_DEFLATE = 20
DEFAULT_DENSITY_HVPS = 10_000
DEFAULT_TOL: Mapping[Accuracy, float] = {"values": 1e-4, "vectors": 1e-3}
BASIS_ABOVE_K = 12  # rows for ten steps of the completeness probe, and two for a restart
LEAST_HVPS = 3
LEAST_SKETCHED_HVPS = {"hutch++": 3, "xtrace": 4}
LEAST_DIAG_HVPS = 2

_SERVES: Mapping[Method, tuple[Which, ...]] = {
    "power": ("LM", "LA", "SA"),
    "lobpcg": ("LA", "SA"),
}


@final
@dataclass(frozen=True, kw_only=True)
class ProblemConfig:
    """Model, data and loss as the command line names them, and how they are evaluated.

    Attributes:
        checkpoint: the file or folder with the weights.
        key: the place of the weights inside it, dotted.
        weights: those that were trained, or their running average.
        partial: whether to load what fits, and to note what does not.
        problem: a TOML problem file.
        model: what `[model] build` takes; `data` and `loss` likewise.
        model_kwargs: `key=value` pairs; likewise the two others.
        output: the model's output that the loss reads.
        batch_size: examples a batch.
        max_examples: a seeded subset of so many.
        trust: whether a spec that came with the checkpoint may name code.
        download: whether torchvision may fetch data that are not on disk.
        params: shell patterns of the parameters to differentiate; empty for all.
        weight_decay: W: adds W I to H.
        train_mode: whether the model stands in train mode.
        skip_unused: whether parameters that the loss never reaches are left out of P.
    """

    checkpoint: Path
    key: str | None = None
    weights: Weights = "model"
    partial: bool = False
    problem: Path | None = None
    model: str | None = None
    data: str | None = None
    loss: str | None = None
    model_kwargs: Mapping[str, object] = field(default_factory=dict)
    data_kwargs: Mapping[str, object] = field(default_factory=dict)
    loss_kwargs: Mapping[str, object] = field(default_factory=dict)
    output: str | None = None
    batch_size: int | None = None
    max_examples: int | None = None
    trust: bool = False
    download: bool = False
    params: Sequence[str] = ()
    weight_decay: float = 0.0
    train_mode: bool = False
    skip_unused: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Where and how precisely.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: of parameters, vectors and floating-point inputs.
        memory: bytes the run may use; None for 60 % of what is free.
        hvp: the way products are made.
        seed: of every random draw.
        shard_params: whether ranks share out the parameters, too.
    """

    device: str = "auto"
    dtype: DType = "float32"
    memory: int | None = None
    hvp: Way = "auto"
    seed: int = 0
    shard_params: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class SpectrumConfig:
    """A `spectrum` run.

    `top_k` None means 20, or P where that is less. Where `tol_given`, the floor of the arithmetic
    above the tolerance is a failure; where `complete`, a list that is not proved complete is one.
    """

    problem: ProblemConfig
    compute: ComputeConfig
    top_k: int | None = None
    all_pairs: bool = False
    which: Which = "LM"
    method: Method = "auto"
    accuracy: Accuracy = "values"
    tol: float = DEFAULT_TOL["values"]
    tol_given: bool = False
    complete: bool = False
    max_hvps: int = DEFAULT_MAX_HVPS
    basis: int | None = None
    basis_device: BasisDevice = "auto"
    basis_dtype: BasisDType = "auto"
    certify: Certify = "auto"
    vectors: bool = False
    momentum: float = 0.0
    per_layer: bool = False
    group: str | None = None

    @property
    def kind(self) -> str:
        """Of the run file: that of blocks is one of its own."""
        return "spectrum-layers" if self.per_layer else "spectrum"

    def __post_init__(self) -> None:
        """Hold the options against one another.

        Raises:
            UsageError: when they contradict each other.
        """
        if self.per_layer and self.method not in {"auto", "dense", "lanczos"}:
            raise UsageError(
                f"--per-layer solves by lanczos or dense; --method {self.method} contradicts it."
            )
        served = _SERVES.get(self.method)
        if served is not None and self.which not in served:
            raise UsageError(
                f"--method {self.method} finds {', '.join(served)}; --which {self.which} was asked "
                "for. Use --method lanczos, which finds all four."
            )
        if self.all_pairs and self.top_k is not None:
            raise UsageError("--all gives every eigenvalue; leave --top-k out.")
        if self.all_pairs and self.method not in {"auto", "dense"}:
            raise UsageError(f"--all is computed densely; --method {self.method} contradicts it.")
        k = self.top_k or DEFAULT_TOP_K
        if self.basis is not None and self.basis < k + BASIS_ABOVE_K:
            raise UsageError(
                f"--basis {self.basis} is too small for --top-k {k}: at least "
                f"{k + BASIS_ABOVE_K} vectors are needed (top-k + {BASIS_ABOVE_K})."
            )
        if self.basis is not None and self.method in {"dense", "power", "eigsh", "lobpcg"}:
            raise UsageError(f"--basis belongs to Lanczos; --method {self.method} has none.")
        if self.basis_dtype == "bfloat16" and self.compute.dtype != "float32":
            raise UsageError("--basis-dtype bfloat16 is computed with in float32; leave one out.")
        if self.momentum and self.method != "power":
            raise UsageError("--momentum belongs to --method power; add it, or leave momentum out.")
        if self.complete and (self.method in _SERVES or self.basis_dtype == "bfloat16"):
            raise UsageError(
                f"--complete needs a probe; --method {' and '.join(_SERVES)} and --basis-dtype "
                "bfloat16 prove nothing of what they do not list."
            )
        if self.certify == "full" and self.method not in {"auto", "lanczos"}:
            raise UsageError(
                f"--certify full belongs to Lanczos; --method {self.method} does it anyway."
                if self.method != "dense"
                else "--certify full belongs to Lanczos; --method dense knows the whole matrix."
            )

    def request(self) -> dict[str, Any]:
        """What decides the result: not where it is computed, nor which results will do."""
        plain = _anywhere(self)
        plain["top_k"] = None if self.all_pairs else self.top_k or DEFAULT_TOP_K
        for name in ("basis", "basis_device", "tol_given", "complete"):
            plain.pop(name)
        return plain


@final
@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """A `trace` run.

    Attributes:
        problem: what is differentiated.
        compute: where and how precisely.
        method: the estimator.
        rel_err: half the interval's width over |trace|; None where `abs_err` alone is asked for.
        abs_err: half the interval's width.
        confidence: of the interval.
        max_hvps: most products over the whole dataset.
        probes: kind of the random vectors.
        sharing: a probe for every batch, or one for all.
        deflate: run file whose eigenvectors are taken out exactly.
        lanczos: whether a short Lanczos of its own may take directions out.
        frobenius: whether |H|_F^2 is wanted too.
        per_layer: whether every layer's part is wanted.
        group: regular expression that makes layers of parameter names; None for modules.
    """

    problem: ProblemConfig
    compute: ComputeConfig
    method: TraceMethod = "auto"
    rel_err: float | None = DEFAULT_REL_ERR
    abs_err: float | None = None
    confidence: float = DEFAULT_CONFIDENCE
    max_hvps: int = DEFAULT_TRACE_HVPS
    probes: Probes = "rademacher"
    sharing: Sharing = "auto"
    deflate: Path | None = None
    lanczos: bool = True
    frobenius: bool = False
    per_layer: bool = False
    group: str | None = None
    kind: ClassVar[str] = "trace"

    def __post_init__(self) -> None:
        """Hold the options against one another.

        Raises:
            UsageError: when they contradict each other.
        """
        sketched = self.method in LEAST_SKETCHED_HVPS
        least = LEAST_SKETCHED_HVPS.get(self.method, 1)
        if self.max_hvps < least:
            raise UsageError(
                f"--method {self.method} needs --max-hvps {least} at least, got {self.max_hvps}."
            )
        if sketched and self.sharing == "per-batch":
            raise UsageError(
                f"--method {self.method} multiplies by the whole H; leave --sharing per-batch out, "
                "or use --method hutchinson."
            )
        for name, wanted in (
            ("--per-layer", self.per_layer),
            ("--frobenius", self.frobenius),
            ("--deflate", self.deflate is not None),
        ):
            if sketched and wanted:
                raise UsageError(
                    f"--method {self.method} gives the trace alone; {name} belongs to --method "
                    "hutchinson."
                )
        if self.method == "dense" and self.deflate is not None:
            raise UsageError("--method dense is exact; --deflate has nothing to add to it.")

    def request(self) -> dict[str, Any]:
        """What decides the result."""
        return _anywhere(self)


@final
@dataclass(frozen=True, kw_only=True)
class DiagConfig:
    """A `diag` run.

    Attributes:
        problem: what is differentiated.
        compute: where and how precisely.
        rel_err: bound of |error|_2 over |diagonal|_2, within at most `max_hvps` products.
        probes: kind of the random vectors.
        sharing: a probe for every batch, or one for all.
        deflate: run file whose eigenvectors are taken out exactly.
        group: regular expression that makes layers of parameter names; None for modules.
    """

    problem: ProblemConfig
    compute: ComputeConfig
    rel_err: float = DEFAULT_DIAG_REL_ERR
    max_hvps: int = DEFAULT_MAX_HVPS
    probes: Probes = "rademacher"
    sharing: Sharing = "auto"
    deflate: Path | None = None
    group: str | None = None
    kind: ClassVar[str] = "diag"

    def request(self) -> dict[str, Any]:
        """What decides the result."""
        return _anywhere(self)


@final
@dataclass(frozen=True, kw_only=True)
class DensityConfig:
    """A `density` run.

    Attributes:
        problem: what is differentiated.
        compute: where and how precisely.
        num_probes: random starts.
        steps: of Lanczos for each; at most P.
        deflate: pairs of largest magnitude that are taken out first.
        rel_err: half the width over the middle of every function; None for `num_probes`.
        max_hvps: most products, of each matrix.
        reorthogonalize: whether the bases are kept orthogonal; None where memory decides.
        sigma: width of the drawn Gaussians; None for a sensible one.
        outliers: spectrum run that is drawn over the density.
        damping: numbers a of effective dimensions and log-determinants of H + a I; `schatten`:
            orders of norms; `threshold`: beyond which eigenvalues are counted, if not decided here.
        per_layer: whether every layer's diagonal block gets a density.
        group: regular expression that makes layers of parameter names; None for modules.
    """

    problem: ProblemConfig
    compute: ComputeConfig
    num_probes: int = DEFAULT_PROBES
    steps: int = DEFAULT_STEPS
    deflate: int = DEFAULT_DEFLATE
    rel_err: float | None = None
    max_hvps: int = DEFAULT_DENSITY_HVPS
    reorthogonalize: bool | None = None
    sigma: float | None = None
    outliers: Path | None = None
    damping: Sequence[float] = ()
    schatten: Sequence[float] = (1.0, 2.0)
    threshold: float | None = None
    per_layer: bool = False
    group: str | None = None
    kind: ClassVar[str] = "density"

    def request(self) -> dict[str, Any]:
        """What decides the result."""
        return _anywhere(self)


@final
@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """A `bench` run.

    Attributes:
        problem: what is differentiated.
        compute: where and how precisely; `hvp` and `memory` are not consulted.
        ways: to compare, by name; empty for all.
        rounds: interleaved repetitions.
    """

    problem: ProblemConfig
    compute: ComputeConfig
    ways: Sequence[str] = ()
    rounds: int = DEFAULT_ROUNDS
    kind: ClassVar[str] = "bench"

    def request(self) -> dict[str, Any]:
        """What decides the result: figures of another machine are another result, though."""
        return _request(self)


def _request(
    config: SpectrumConfig | BenchConfig | TraceConfig | DiagConfig | DensityConfig,
) -> dict[str, Any]:
    """The config without what names the same problem in other words."""
    plain = asdict(config)
    for name in ("trust", "download", "checkpoint", "problem"):
        plain["problem"].pop(name)
    return plain


def _anywhere(config: SpectrumConfig | TraceConfig | DiagConfig | DensityConfig) -> dict[str, Any]:
    """The same without where it is computed, with how much room and for how long."""
    plain = _request(config)
    plain["compute"].pop("memory")
    plain["compute"].pop("device")
    plain["compute"].pop("shard_params")
    plain.pop("max_hvps", None)
    return {n: str(value) if isinstance(value, Path) else value for n, value in plain.items()}
