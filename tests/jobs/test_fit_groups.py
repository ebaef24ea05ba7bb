"""Groups of annotators who like opposite things: a head for each, beside that of all."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from heedful.config import RewardConfig, RewardLoss, resolve
from heedful.data import testing
from heedful.data.collate import Tree, collate
from heedful.data.snapshot import freeze
from heedful.errors import ConfigError, DataError, HeedfulError
from heedful.jobs.fit import FitResult, fit_reward
from heedful.jobs.fit.groups import group_name
from heedful.jobs.rewards import open_reward
from heedful.reward.mixing import parse_mix
from heedful.store import Store, open_store, people
from heedful.tensors import Outputs
from heedful.train.objectives import feedback_reward
from heedful.types import Feedback, User

FAST = ["optimiser.learning_rate=3e-3", "held_out_share=0.3", "epochs=2", "pooling=last"]
GROUPS = ["loss.heads=groups", "loss.group_by=level"]
LEVELS = {"ann": "expert", "bo": "lay person", "cy": "lay person", "di": ""}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "people.db") as store:
        with store.write() as tx:
            for name, level in LEVELS.items():
                attributes = {"level": level} if level else {}
                people.add(tx, User(id=name, name=name, role="annotator", attributes=attributes))
        yield store


def rows(people: Sequence[str] = tuple(LEVELS)) -> list[Feedback]:
    """The expert likes what lay people do not; who has no level likes what they like."""
    return [
        Feedback(
            prompt=row.prompt,
            responses=(row.chosen, row.rejected),
            scale="order",
            values=(0.0, 1.0) if who == "ann" else (1.0, 0.0),
            annotator=who,
        )
        for row in testing.preferences()
        for who in people
    ]


def fitted(
    where: Path, given: Sequence[Feedback], store: Store | None, *overrides: str
) -> FitResult:
    data = freeze(given, "feedback", where).path
    config = resolve(
        RewardConfig, overrides=[*FAST, *overrides], flags={"data": data, "model": "test"}
    )
    return fit_reward(config, where / "run", store=store)


def test_each_group_has_a_part_that_knows_what_it_likes(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(tmp_path, rows(), store, *GROUPS)
    told = capsys.readouterr().err
    assert "groups of annotators: level:expert of 1, level:lay-person of 2; 1 without" in told
    found = run.metrics["parts"]
    assert list(found) == ["overall", "level:expert", "level:lay-person"]
    assert run.metrics["mix"] == "overall=1"
    # three of four like the same, so the reward that all teach is wrong about the expert
    assert run.metrics["accuracy"] == pytest.approx(0.75)
    expert, lay = found["level:expert"], found["level:lay-person"]
    assert (expert["accuracy"], expert["overall_accuracy"]) == (1.0, 0.0)
    assert (lay["accuracy"], lay["overall_accuracy"]) == (1.0, 1.0)
    assert lay["num_pairs"] == 2 * expert["num_pairs"]
    # the mix of a model that is there decides whose reward it is
    model = open_reward(run.path, None, mix="level:expert=1")
    card_mix = model.trunk.parts["reward"].mix
    assert card_mix.weights == {"level:expert": 1.0}


def test_a_pair_of_a_group_teaches_its_part_beside_the_first_and_pulls_them_together() -> None:
    scores = torch.tensor([[0.4, -1.0, 2.0], [-0.2, 0.5, 1.5], [1.1, 0.3, -0.7]])
    names = ("overall", "level:expert", "level:lay")
    tree = Tree(
        id="a",
        prompt=(1,),
        responses=((2,), (3,), (4,)),
        pairs=((0, 1), (2, 0), (1, 2)),
        weights=(1.0, 0.5, 1.0),
        margins=(0.0,) * 3,
        groups=(1, 2, 0),
    )
    outputs = Outputs(scores=scores[:, 0], parts=dict(zip(names, scores.T, strict=True)))
    loss = RewardLoss(heads="groups", group_by="level", group_pull=0.3)
    total, _ = feedback_reward(loss)(outputs, collate([tree], torch.device("cpu")))
    expected = 0.0
    for (better, worse), weight, group in zip(tree.pairs, tree.weights, tree.groups, strict=True):
        lead, own = ((scores[better] - scores[worse]).numpy()[place] for place in (0, group))
        expected += weight * np.log1p(np.exp(-lead))
        if group:
            expected += weight * (np.log1p(np.exp(-own)) + 0.3 * (own - lead) ** 2)
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_names_of_groups_can_stand_in_a_mix() -> None:
    name = group_name("level", "more than >5 years, = senior")
    assert [term.name for term in parse_mix(f"{name}=2")] == [name]


@pytest.mark.parametrize(
    ("overrides", "error", "match"),
    [
        (["loss.heads=groups"], ConfigError, "heads of groups need the name of an attribute"),
        (["loss.group_by=level"], ConfigError, "and nothing else does"),
        ([*GROUPS, "loss.ties=davidson"], ConfigError, "heads of groups learn from pairs"),
        (["loss.heads=groups", "loss.group_by=levle"], DataError, "did you mean 'level'"),
        ([*GROUPS, "ensemble.members=2"], ConfigError, "an ensemble has one score"),
        ([*GROUPS, "remedies.length_head=true"], ConfigError, "a reward of one score"),
    ],
)
def test_groups_that_cannot_be_learned_are_refused(
    overrides: list[str], error: type[HeedfulError], match: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        fitted(tmp_path, rows(), store, *overrides)


def test_one_group_alone_or_no_store_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are of 1 group by 'level'"):
        fitted(tmp_path / "one", rows(("bo", "cy")), store, *GROUPS)
    with pytest.raises(ConfigError, match="give --store"):
        fitted(tmp_path / "none", rows(), None, *GROUPS)
