from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.collate import Tree, collate
from heedful.maths.logprobs import linear_logprobs
from heedful.model.compiled import compile_layers, compile_seconds
from heedful.model.forward import forward, logprobs_of
from heedful.model.lora import AdaptedLinear
from heedful.model.trunk import Trunk
from heedful.tensors import Batch
from heedful.train.objectives import nll

TREES = [
    Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 1), (11, 1), (12, 13, 14)),
         pairs=((0, 1),)),
    Tree(id="b", prompt=(20, 21), responses=((22, 1),)),
]  # fmt: skip


def expected_logprobs(model: Any, tree: Tree, response: tuple[int, ...], temperature: float) -> Any:
    ids = torch.tensor([[*tree.prompt, *response]])
    logits = model(ids).logits[0].float() / temperature
    logp = torch.log_softmax(logits, dim=-1)
    start = len(tree.prompt) - 1
    return torch.stack([logp[start + t, token] for t, token in enumerate(response)])


SHARING = [
    Tree(id="a", prompt=(5, 6, 7, 8), responses=((8, 9, 10, 1), (11, 1)), pairs=((0, 1),)),
    Tree(id="b", prompt=(5, 6, 20), responses=((22, 1),)),
    Tree(id="c", prompt=(5, 6), responses=((7, 8, 23), (24, 25), (26, 1))),
]


@pytest.fixture(params=["dense", "split", "split and fused"], autouse=True)
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of this file, with small and large trees, and with scores held and not."""
    if request.param != "dense":
        monkeypatch.setattr("heedful.model.attention.DENSE_TOKENS", 0)
    if request.param == "split and fused":
        monkeypatch.setattr("heedful.model.attention.HELD_SCORES", {})


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("trees", [TREES, SHARING], ids=["apart", "sharing"])
def test_packed_shared_logprobs_equal_stock_attention_on_separate_sequences(
    trunk: Trunk, plain: Any, trees: list[Tree], temperature: float
) -> None:
    rows = logprobs_of(trunk, collate(trees, trunk.device), None, temperature=temperature)
    row = 0
    for tree in trees:
        for response in tree.responses:
            expected = expected_logprobs(plain, tree, response, temperature)
            torch.testing.assert_close(rows[row, : len(response)], expected, atol=1e-5, rtol=1e-5)
            row += 1


def test_what_an_answer_was_given_is_read_and_not_learned(trunk: Trunk, plain: Any) -> None:
    given = (frozenset({1, 2}), frozenset(), frozenset({0}))
    tool = replace(TREES[0], given=given, pairs=(), weights=(1.0, 1.0, 2.0))
    batch = collate([tool, replace(TREES[1], weights=(1.0,))], trunk.device)
    outputs = forward(trunk, batch, None, {"logprobs"})
    assert outputs.logprobs is not None
    written = []
    for row, (response, left_out) in enumerate(zip(tool.responses, given, strict=True)):
        expected = expected_logprobs(plain, tool, response, 1.0)
        kept = [place for place in range(len(response)) if place not in left_out]
        own = outputs.logprobs[row]
        torch.testing.assert_close(own[kept], expected[kept], atol=1e-5, rtol=1e-5)
        assert not own[sorted(left_out)].any()
        written.append(expected[kept].sum() * tool.weights[row])
    last = expected_logprobs(plain, TREES[1], TREES[1].responses[0], 1.0).sum()
    loss, _ = nll(outputs, batch)
    torch.testing.assert_close(loss, -(sum(written) + last), atol=1e-4, rtol=1e-5)
    assert batch.token_weight == 2 + 2 + 2 * 2 + 2  # of the tokens that were written


def test_what_all_prompts_begin_with_stands_once_and_every_prompt_keeps_its_end(
    trunk: Trunk,
) -> None:
    batch = collate(SHARING, trunk.device)
    assert batch.before == 1  # the last prompt is (5, 6), and 6 predicts its responses
    assert batch.num_packed == sum(tree.num_tokens for tree in SHARING) - 2
    whole = collate(SHARING, trunk.device, shares=False)
    assert (whole.before, whole.num_packed) == (0, batch.num_packed + 2)
    torch.testing.assert_close(
        logprobs_of(trunk, batch, None), logprobs_of(trunk, whole, None), atol=1e-5, rtol=1e-5
    )
    assert batch.num_padded == whole.num_padded


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # no compiler in a fast test
@pytest.mark.parametrize("trees", [TREES, SHARING], ids=["apart", "sharing"])
def test_fused_attention_equals_attention_tree_by_tree(trunk: Trunk, trees: list[Tree]) -> None:
    expected = logprobs_of(trunk, collate(trees, trunk.device), None)
    trunk.attention = "flex"
    fused = logprobs_of(trunk, collate(trees, trunk.device), None)
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-5)


def gradients(trunk: Trunk, groups: list[list[Tree]], weights: list[float]) -> dict[str, Any]:
    parameters = trunk.trainable("policy")
    for parameter in parameters.values():
        parameter.requires_grad_(True)
        parameter.grad = None
    row = 0
    for group in groups:
        batch = collate(group, trunk.device)
        logprobs = forward(trunk, batch, "policy", {"logprobs"}).logprobs
        assert logprobs is not None
        count = len(logprobs)
        part = torch.tensor(weights[row : row + count])
        (logprobs.sum(dim=1) * part).sum().backward()
        row += count
    return {name: value.grad.clone() for name, value in parameters.items()}


@pytest.mark.filterwarnings("ignore")  # of torch about itself
def test_compiled_layers_give_the_same_gradients(
    trunk: Trunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    with torch.no_grad():
        for value in trunk.trainable("policy").values():
            value.add_(torch.linspace(-0.1, 0.1, value.numel()).view_as(value))
    weights = [1.0, -2.0, 0.5, 3.0]
    expected = gradients(trunk, [TREES], weights)
    compile_layers(trunk, backend="aot_eager")  # all of torch.compile but for the C++ compiler
    compiled = gradients(trunk, [TREES], weights)
    for name, value in expected.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-4, msg=name)
    assert compile_seconds() > 0
    # the C++ backend refuses a product with a weight that is laid out already
    with trunk.sampling("policy"):
        inputs = torch.ones(1, 2, trunk.width)
        layer = next(one for one in trunk.layers.values() if one.in_features == trunk.width)
        assert layer.fixed is not None
        plain = torch.nn.functional.linear(inputs, layer.folded("policy"), layer.base.bias)
        assert torch.equal(layer.fixed(inputs), plain)
        monkeypatch.setattr("heedful.model.products.multiplied", None)
        layer.fixed(inputs)


@pytest.mark.parametrize("trees", [TREES, SHARING], ids=["apart", "sharing"])
def test_gradients_do_not_depend_on_packing_or_prompt_sharing(
    trunk: Trunk, trees: list[Tree]
) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0)
    with torch.no_grad():
        for value in trunk.trainable("policy").values():
            value.add_(torch.linspace(-0.1, 0.1, value.numel()).view_as(value))
    weights = [1.0, -2.0, 0.5, 3.0, -0.7, 1.5][: sum(len(tree.responses) for tree in trees)]
    packed = gradients(trunk, [trees], weights)
    alone = [[Tree(id=t.id, prompt=t.prompt, responses=(r,))] for t in trees for r in t.responses]
    separate = gradients(trunk, alone, weights)
    for name, value in packed.items():
        torch.testing.assert_close(value, separate[name], atol=2e-4, rtol=2e-4, msg=name)


def test_recomputed_activations_give_the_same_gradients(trunk: Trunk) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0, first_layer=1)
    with torch.no_grad():
        for value in trunk.trainable("policy").values():
            value.add_(torch.linspace(-0.1, 0.1, value.numel()).view_as(value))
    weights = [1.0, -2.0, 0.5, 3.0]
    runs: list[int] = []
    inner = next(m for m in trunk.decoder_layers[1].modules() if isinstance(m, AdaptedLinear))
    inner.register_forward_hook(lambda *_: runs.append(1))
    kept = gradients(trunk, [TREES], weights)
    assert len(runs) == 1
    trunk.recomputes = True
    recomputed = gradients(trunk, [TREES], weights)
    assert len(runs) == 3
    for name, value in kept.items():
        torch.testing.assert_close(value, recomputed[name])


def test_layers_that_two_roles_share_are_computed_once(trunk: Trunk) -> None:
    trunk.add_adapter("policy", rank=4, alpha=8, seed=0, first_layer=1)
    with torch.no_grad():
        for value in trunk.trainable("policy").values():
            value.add_(torch.linspace(-0.1, 0.1, value.numel()).view_as(value))
    parameters = trunk.trainable("policy")

    def both(batch: Batch) -> tuple[Any, ...]:
        reference = logprobs_of(trunk, batch, None)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
            parameter.grad = None
        own = forward(trunk, batch, "policy", {"logprobs"}).logprobs
        assert own is not None
        own.square().sum().backward()
        return reference, own.detach(), *(value.grad.clone() for value in parameters.values())

    plain = collate(TREES, trunk.device)
    computed: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, i=i: computed.append(i))
        for i, layer in enumerate(trunk.decoder_layers)
        for layer in (next(m for m in layer.modules() if isinstance(m, AdaptedLinear)),)
    ]
    wanted = both(plain)
    assert computed == [0, 1, 0, 1]
    computed.clear()
    shared = both(replace(plain, stem=trunk.stem("policy", None)))
    assert computed == [0, 1, 1]
    for hook in hooks:
        hook.remove()
    for left, right in zip(wanted, shared, strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)
    # and nothing is left behind
    again = both(plain)
    torch.testing.assert_close(again[1], wanted[1])


def test_a_stem_is_refused_to_a_role_that_adapts_it(trunk: Trunk) -> None:
    trunk.add_adapter("top", rank=2, alpha=4, seed=0, first_layer=1)
    trunk.add_adapter("all", rank=2, alpha=4, seed=0)
    assert trunk.stem("top", "all") is None
    assert trunk.stem(None) is None
    stem = trunk.stem("top", None)
    assert stem is not None
    assert stem.num_layers == 1
    with pytest.raises(ValueError, match="'all' adapts a layer below 1"):
        logprobs_of(trunk, replace(collate(TREES, trunk.device), stem=stem), "all")


def test_order_of_trees_only_permutes_rows(trunk: Trunk) -> None:
    forwards = logprobs_of(trunk, collate(TREES, trunk.device), None)
    backwards = logprobs_of(trunk, collate(TREES[::-1], trunk.device), None)
    torch.testing.assert_close(forwards[:3], backwards[1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(forwards[3], backwards[0], atol=1e-5, rtol=1e-5)


def test_changing_a_sibling_leaves_a_response_alone(trunk: Trunk) -> None:
    changed = Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 1), (40, 41, 42, 43), (12,)))
    before = logprobs_of(trunk, collate(TREES, trunk.device), None)[0]
    after = logprobs_of(trunk, collate([changed], trunk.device), None)[0]
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    tokens=st.integers(1, 9),
    chunk=st.integers(1, 12),
    temperature=st.floats(0.3, 2.0),
    seed=st.integers(0, 99),
)
def test_linear_logprobs_equal_the_naive_form_with_gradient(
    tokens: int, chunk: int, temperature: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 6, generator=generator)
    weight = torch.randn(11, 6, generator=generator)
    targets = torch.randint(0, 11, (tokens,), generator=generator)
    scale = torch.randn(tokens, generator=generator)
    ours, naive = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    logprobs, entropy = linear_logprobs(
        ours, weight, targets, temperature=temperature, chunk_tokens=chunk
    )
    logp = torch.log_softmax(naive @ weight.T / temperature, dim=-1)
    expected = logp.gather(-1, targets[:, None]).squeeze(-1)
    (logprobs * scale).sum().backward()
    (expected * scale).sum().backward()
    torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, -(logp.exp() * logp).sum(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.grad, naive.grad, atol=2e-5, rtol=1e-4)


def test_linear_logprobs_refuse_a_trainable_embedding() -> None:
    weight = torch.zeros(3, 2, requires_grad=True)
    with pytest.raises(ValueError, match="frozen"):
        linear_logprobs(torch.zeros(1, 2), weight, torch.zeros(1, dtype=torch.long))
