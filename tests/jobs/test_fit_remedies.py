"""Remedies against a reward that follows length: what each does to a fit, and what is refused."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heedful.config import RewardConfig, resolve
from heedful.data import testing
from heedful.data.collate import Tree, collate
from heedful.data.examples import answer
from heedful.data.snapshot import freeze
from heedful.errors import ConfigError, DataError, HeedfulError
from heedful.jobs.fit import FitResult, fit_reward
from heedful.jobs.fit.remedies import balanced, with_style
from heedful.jobs.rewards import export_classifier, open_reward
from heedful.model.adapter_files import read_card
from heedful.model.base import load_base
from heedful.model.trunk import Trunk
from heedful.types import Feedback

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "shortcuts.py"


@pytest.fixture(scope="module")
def world() -> ModuleType:
    """The simulated task of the benchmark."""
    found = importlib.util.spec_from_file_location("shortcuts_benchmark", BENCHMARK)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def fitted(data: str, out: Path, *overrides: str) -> FitResult:
    given = ["held_out_share=0", "optimiser.learning_rate=1e-3", *overrides]
    config = resolve(RewardConfig, overrides=given, flags={"data": data, "model": "test"})
    return fit_reward(config, out)


@pytest.fixture(scope="module")
def runs(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The fit of each remedy on the same 80 pairs of people who like length."""
    where = tmp_path_factory.mktemp("remedies")
    data = freeze(world.simulate(0, 80, 2.5), "preference", where).path
    return {
        name: fitted(data, where / name.replace(" ", "-"), *overrides)
        for name, overrides in world.REMEDIES.items()
        if name != "style as covariates"
    }


def tree(*lengths: tuple[int, int], **more: Any) -> Tree:
    """A pair for each (chosen, rejected) length."""
    responses = tuple((1,) * length for pair in lengths for length in pair)
    num = len(lengths)
    return Tree(
        id=str(lengths),
        prompt=(1,),
        responses=responses,
        pairs=tuple((2 * n, 2 * n + 1) for n in range(num)),
        weights=(1.0,) * num,
        margins=tuple(map(float, range(num))),
        **more,
    )


def test_pairs_are_balanced_over_trees_and_a_tree_without_any_left_keeps_its_place() -> None:
    # one bin of small differences, three to one; one of large differences, the longer alone
    trees = [tree((5, 4), (6, 5), (4, 5)), tree((8, 7)), tree((30, 3), (40, 3))]
    found, num_lost = balanced(trees, 2)
    assert num_lost == 2
    assert [one.weights for one in found] == [(2 / 3, 2 / 3, 2.0), (2 / 3,), ()]
    assert found[0].margins == (0, 1, 2)
    with pytest.raises(DataError, match="length_bins is 2, but 1 prompts have no pairs"):
        balanced([Tree(id="a", prompt=(1,), responses=((1,),))], 2)


def test_style_is_in_deviations_by_answer_and_reaches_the_batch() -> None:
    trunk = Trunk(load_base("test"))
    texts = ["one two three", "one", "- one\n- two"]
    responses = tuple(tuple(trunk.tokenizer(text)["input_ids"]) for text in texts)
    (one,) = with_style([Tree(id="a", prompt=(1,), responses=responses)], trunk.tokenizer, "style")
    length, lists = zip(*one.style, strict=True)  # no bold: a constant says nothing
    assert length[0] > length[2] > length[1]
    assert lists[2] > lists[0] == lists[1]
    assert sum(length) == pytest.approx(0, abs=1e-9)
    style = collate([one], trunk.device).style
    assert style is not None
    assert style.shape == (3, 2)
    same = Tree(id="a", prompt=(1,), responses=responses[:1])
    with pytest.raises(DataError, match="all 1 answers are alike in length"):
        with_style([same], trunk.tokenizer, "length")


def test_the_head_and_the_coefficient_of_length_share_what_is_learned(
    runs: dict[str, Any],
) -> None:
    links = runs["length as covariate"].metrics["links"]
    (coefficient,) = links["style"]
    assert coefficient > 0.3  # people who like length
    assert "links" not in runs["none"].metrics


def test_the_penalty_is_on_the_card_and_in_every_score(
    runs: dict[str, Any], world: ModuleType, tmp_path: Path
) -> None:
    run = runs["length penalty"]
    penalty = run.metrics["length_penalty"]
    card = read_card(Path(run.path))
    assert card.length_penalty == penalty
    model = open_reward(run.path, None)
    response = tuple(model.trunk.tokenizer("fair")["input_ids"])
    one = Tree(id="a", prompt=(1, 2), responses=(response, response * 3))
    (first,) = model.score([one])
    model.trunk.length_penalty["reward"] = 0.0
    (plain,) = model.score([one])
    closed = [len(each) + 1 for each in one.responses]  # an end of turn is added
    taken = [(a - b) * card.std for a, b in zip(plain, first, strict=True)]
    assert taken == pytest.approx([penalty * num for num in closed], abs=1e-4)
    with pytest.raises(ConfigError, match="does not count tokens"):
        export_classifier(run.path, None, tmp_path / "classifier")


def test_the_head_for_length_is_not_in_the_model(runs: dict[str, Any]) -> None:
    run = runs["length head (ODIN)"]
    model = open_reward(run.path, None)
    assert set(model.trunk.heads) == {"reward"}
    assert len(model.trunk.heads["reward"].weight) == 1
    assert read_card(Path(run.path)).mean != read_card(Path(runs["none"].path)).mean


def test_balancing_changes_what_is_learned_and_says_what_it_left_out(runs: dict[str, Any]) -> None:
    metrics = runs["length-balanced"].metrics
    assert metrics["num_train"] + metrics["num_unbalanced"] == 80
    assert "num_unbalanced" not in runs["none"].metrics


@pytest.mark.parametrize(
    ("overrides", "error", "match"),
    [
        (["remedies.length_penalty=auto", "remedies.covariates=length"], ConfigError,
         "length_penalty beside covariates would take length off twice"),
        (["remedies.length_penalty=0.1", "remedies.length_bins=3"], ConfigError,
         "length_penalty beside length_bins would"),
        (["remedies.length_head=true", "remedies.covariates=style"], ConfigError,
         "length_head beside covariates would"),
        (["remedies.length_bins=3", "loss.rankings=plackett_luce"], ConfigError,
         "length_bins balances pairs and loss.rankings=plackett_luce"),
        (["remedies.length_penalty=-1"], ConfigError, "greater than or equal to 0"),
        (["remedies.covariate=length"], ConfigError, "did you mean 'covariates'"),
        (["remedies.length_bins=2"], DataError, "no stratum has pairs of both kinds"),
    ],
)  # fmt: skip
def test_remedies_that_contradict_each_other_or_the_data_are_refused(
    overrides: list[str], error: type[HeedfulError], match: str, tmp_path: Path
) -> None:
    longer = [replace(row, chosen=answer("yes " * 9)) for row in testing.preferences()]
    data = freeze(longer, "preference", tmp_path).path
    with pytest.raises(error, match=match) as caught:
        fitted(data, tmp_path / "run", *overrides)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "model").exists()


def test_a_penalty_that_cannot_be_measured_is_refused_before_the_fit(tmp_path: Path) -> None:
    alone = [
        Feedback(prompt=row.prompt, responses=(row.chosen,), scale="thumb", values=(n % 2,))
        for n, row in enumerate(testing.preferences())
    ]
    data = freeze(alone, "feedback", tmp_path).path
    with pytest.raises(DataError, match=r"none of \d+ prompts has answers of different length"):
        fitted(data, tmp_path / "run", "remedies.length_penalty=auto", "held_out_share=0.3")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
