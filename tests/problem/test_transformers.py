"""Models of transformers, tiny and untrained: their own loss, ours, and several outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curvtool.operators.hessian import HessianOperator
from curvtool.operators.preflight import preflight
from curvtool.problem.batch import Batch, Loss
from curvtool.problem.objective import Objective
from tests.problem.losses import dict_of, labels, loss_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
transformers: Any = pytest.importorskip("transformers", reason="the extra hf is not installed")

N, T, V = 4, 6, 11
SMALL = {"vocab_size": V, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=V, n_positions=T, n_embd=8, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config)


def llama() -> Any:
    config = transformers.LlamaConfig(**SMALL, intermediate_size=8, num_key_value_heads=1, **ENDS)
    return transformers.LlamaForCausalLM(config)


def bert() -> Any:
    config = transformers.BertConfig(**SMALL, intermediate_size=8, max_position_embeddings=T)
    return transformers.BertForMaskedLM(config)


def albert() -> Any:
    config = transformers.AlbertConfig(
        **SMALL, embedding_size=4, intermediate_size=8, max_position_embeddings=T
    )
    return transformers.AlbertForMaskedLM(config)


def seeded_model(build: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
        for p in model.parameters():
            nn.init.normal_(p, std=0.4)
    return model


LENGTHS = torch.tensor([6, 3, 5, 2])
ATTENDED = (torch.arange(T) < LENGTHS[:, None]).long()
TOKENS = (labels(V - 1, N, T) + 1).masked_fill(ATTENDED == 0, 0)


def batch(*, causal: bool) -> Batch:
    if causal:
        shown = TOKENS.masked_fill(ATTENDED == 0, -100)
    else:
        shown = TOKENS.where((labels(2, N, T, seed=3) == 0) & (ATTENDED == 1), -100)
    return dict_of(input_ids=TOKENS, attention_mask=ATTENDED, labels=shown)


def objective_of(model: Any, loss: Loss, whole: Batch, dtype: torch.dtype) -> Objective:
    parts = [whole.part(0, 3), whole.part(3, N)]
    return Objective(model, loss, parts, device=torch.device("cpu"), dtype=dtype)


FAMILIES = {"gpt2": gpt2, "llama": llama, "bert": bert, "albert": albert}


def is_causal(family: str) -> bool:
    return family in {"gpt2", "llama"}


@pytest.mark.parametrize("family", FAMILIES)
def test_ours_and_the_models_own_loss_agree(family: str) -> None:
    whole = batch(causal=is_causal(family))
    ours = loss_of("causal_lm" if is_causal(family) else "masked_lm")
    model = seeded_model(FAMILIES[family])
    a, b = ours(model, whole, score=True), loss_of("hf")(model, whole, score=True)
    assert (a.weight, a.score) == (b.weight, b.score)
    # 20 terms in float32, in two orders.
    assert abs(float((a.mean - b.mean).detach())) <= 200 * torch.finfo(torch.float32).eps
    of_parts = objective_of(model, ours, whole, torch.float32).evaluate()
    assert abs(of_parts.loss - float(a.mean.detach())) <= 200 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("own", [False, True], ids=["ours", "own"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_product_is_that_of_differences_of_the_gradient(family: str, own: bool) -> None:
    whole = batch(causal=is_causal(family))
    name = "hf" if own else "causal_lm" if is_causal(family) else "masked_lm"
    objective = objective_of(seeded_model(FAMILIES[family]), loss_of(name), whole, torch.float32)
    objective.evaluate()
    checked = preflight(objective, way="retained-graph", seed=0, examples=N)
    assert all(check.passed is not False for check in checked.checks)
    v_P = torch.randn(objective.size, generator=torch.Generator().manual_seed(1))
    found_P = HessianOperator(objective).matvec(v_P).double()
    # The truth in float64 by our loss, since the model's own is float32 whatever the model.
    plain = loss_of("causal_lm" if is_causal(family) else "masked_lm")
    exact = objective_of(seeded_model(FAMILIES[family]).double(), plain, whole, torch.float64)
    exact.evaluate()
    theta_P, h = exact.theta(), 1e-5
    ahead, behind = (exact.gradient_at(theta_P + s * h * v_P.double()) for s in (1, -1))
    truth_P: Tensor = (ahead - behind) / (2 * h)
    # float32 through some ten layers; models that norm in float32 whatever they are have
    # differences that are off by its eps over h.
    assert float((found_P - truth_P).norm()) <= 2e-2 * float(truth_P.norm())


def test_a_model_of_several_outputs_gives_the_named_one() -> None:
    config = transformers.CLIPConfig(
        text_config={**SMALL, "intermediate_size": 8, "max_position_embeddings": T, **ENDS},
        vision_config={
            **{k: v for k, v in SMALL.items() if k != "vocab_size"},
            "intermediate_size": 8,
            "image_size": 4,
            "patch_size": 2,
        },
        projection_dim=5,
    )
    model = seeded_model(lambda: transformers.CLIPModel(config))
    pixels = torch.randn(N, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    whole = dict_of(pixel_values=pixels, input_ids=TOKENS, attention_mask=ATTENDED)
    value = loss_of("contrastive", scale="logit_scale")(model, whole, score=True)
    own = model(**whole.values, return_loss=True)  # type: ignore[arg-type]
    # 16 similarities in float32.
    eps = torch.finfo(torch.float32).eps
    assert abs(float((value.mean - own.loss).detach())) <= 200 * eps
