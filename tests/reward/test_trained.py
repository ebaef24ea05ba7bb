import pytest
import torch

from heedful.data.collate import Tree, collate
from heedful.model import tiny
from heedful.model.base import load_base
from heedful.model.forward import apply_head, hidden_states
from heedful.model.trunk import Trunk
from heedful.reward.texts import ApartReward, TextReward
from heedful.reward.trained import HALF_SHRUNK, TrainedReward
from heedful.train.rollouts import add_critic

TREES = [
    Tree(id="a", prompt=(5, 6, 7), responses=((8, 9, 10, 11, 1), (12, 1))),
    Tree(id="b", prompt=(20, 21), responses=((22, 23, 24),)),
]


def trunk_with_reward(pooling: str) -> Trunk:
    trunk = Trunk(load_base(tiny.NAME))
    trunk.add_adapter("reward", rank=4, alpha=8.0, seed=0)
    for name, value in trunk.adapter_parameters("reward").items():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(value, std=0.1)
    trunk.add_head("reward", std=0.3, seed=0, pooling=pooling)
    return trunk


@pytest.mark.parametrize("pooling", ["mean", "last", "last_centred"])
@torch.no_grad()
def test_score_so_far_is_the_shrunk_score_of_the_answer_cut_there(pooling: str) -> None:
    torch.manual_seed(0)
    trunk = trunk_with_reward(pooling)
    reward = TrainedReward(trunk, mean=0.2, std=1.7)
    batch = collate(TREES, trunk.device)
    so_far = reward.score_so_far(batch, hidden_states(trunk, batch, "reward"))
    expected = []
    for tree in TREES:
        for response in tree.responses:
            expected.append(0.0)
            for n in range(1, len(response)):
                cut = collate(
                    [Tree(id="x", prompt=tree.prompt, responses=(response[:n],))], trunk.device
                )
                score = reward.score(cut, hidden_states(trunk, cut, "reward"), ()).item()
                expected.append(score * n / (n + HALF_SHRUNK))
    torch.testing.assert_close(so_far, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert len({round(value, 4) for value in expected}) > 5


@torch.no_grad()
def test_the_critic_starts_as_the_reward_models_score_so_far() -> None:
    trunk = trunk_with_reward("mean")
    add_critic(trunk, seed=0)
    so_far = torch.tensor([0.0, -1.5, 2.25])
    features = torch.cat([torch.randn(3, trunk.width), so_far[:, None]], dim=1)
    assert apply_head(trunk.heads["critic"], features).tolist() == so_far.tolist()


def test_a_rule_says_nothing_of_unfinished_answers() -> None:
    trunk = trunk_with_reward("mean")
    batch = collate(TREES, trunk.device)
    rule = TextReward(name="three", reader="a rule", scale="rule", measure=lambda *_: 3.0)
    apart = ApartReward(rule, feature_role=None)
    so_far = apart.score_so_far(batch, hidden_states(trunk, batch, None))
    assert so_far.tolist() == [0.0] * batch.num_tokens
