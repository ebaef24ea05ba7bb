"""Rewards that share nothing with the policy: features, rules, and models on another base."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from heedful.annotators.golds import resolve_gold
from heedful.annotators.text_patterns import describe
from heedful.config import EvaluateConfig, PPOConfig, RewardCardConfig, RewardConfig, resolve
from heedful.data import testing
from heedful.data.examples import answer
from heedful.data.plain import MARKS, PLAIN
from heedful.errors import ConfigError, DataError, HeedfulError
from heedful.jobs.evaluate import evaluate
from heedful.jobs.fit import FitResult, fit_ppo, fit_reward
from heedful.jobs.fit.memory import Means, memory_lines
from heedful.jobs.reward_card import reward_card
from heedful.jobs.rewards import check_reward, export_classifier, open_reward
from heedful.jobs.rundir import RunDirectory
from heedful.jobs.scoring import score_file
from heedful.jobs.serving import RewardWorker
from heedful.jobs.text_rewards import read_network
from heedful.model.adapter_files import FEATURES, read_card
from heedful.model.base import resolve as resolve_base
from heedful.reward.reading import answers_tree
from heedful.store import Store, lineage, models, open_store
from heedful.types import Message, Prompt
from heedful.web.reward_service import Conversation, Rendered

PAIRS = testing.preferences()
SMALL = ["rollouts.num_rollouts=1", "rollouts.prompts_per_rollout=2",
         "rollouts.samples_per_prompt=2", "rollouts.max_new_tokens=4"]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("store") / "s.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def features(store: Store, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    config = resolve(
        RewardConfig,
        overrides=["held_out_share=0.3"],
        flags={"data": "test", "backbone": "features"},
    )
    return fit_reward(config, tmp_path_factory.mktemp("fit") / "features", store=store)


@pytest.fixture(scope="module")
def other_base(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The test model with other weights: another base."""
    path, _ = resolve_base("test")
    target = tmp_path_factory.mktemp("base") / "other"
    shutil.copytree(path, target)
    (file,) = target.glob("*.safetensors")
    torch.manual_seed(1)
    tensors = {k: v + 0.01 * torch.randn_like(v) for k, v in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return str(target)


def ppo(model: str, reward: str) -> PPOConfig:
    flags = {"data": "test", "model": model, "reward": reward}
    return resolve(PPOConfig, overrides=SMALL, flags=flags)


def direct(run: FitResult, text: str) -> float:
    """The normalised score, from the file alone."""
    card, network = read_card(Path(run.path)), read_network(Path(run.path))
    return float((network.score(np.array([describe(text)]))[0] - card.mean) / card.std)


def test_plain_tokens_give_back_the_texts_and_the_last_question() -> None:
    said = "naïve 文\n" + MARKS["user"]
    prompt = Prompt(
        messages=(
            Message(role="system", content="be brief"),
            Message(role="user", content="first"),
            Message(role="assistant", content="yes"),
            Message(role="user", content=said),
        )
    )
    tree = answers_tree(PLAIN, "a", prompt, [answer("so "), (*answer("one"), *answer("two"))])
    assert PLAIN.asked(tree.prompt) == "naïve 文\n"  # a mark is no text
    assert [PLAIN.decode(one) for one in tree.responses] == ["so ", "one\ntwo"]


def test_features_learn_from_pairs_in_a_run_of_the_usual_shape(
    features: FitResult, store: Store
) -> None:
    assert features.metrics["accuracy"] >= 0.9
    assert {"accuracy_ci", "ece", "num_train", "drops", "seconds"} <= set(features.metrics)
    assert (Path(features.run) / "report.html").exists()
    with store.read() as tx:
        version = models.get(tx, features.model)
        assert version.role == "reward"
        assert lineage.parents(tx, "mdl", [version.id])["run"] == [version.run]
    config = json.loads((Path(features.run) / "config.json").read_text())["config"]
    again = fit_reward(RewardConfig(**config), Path(features.run), store=store)
    assert again == features


def test_score_and_serve_give_what_the_saved_network_says(
    features: FitResult, store: Store, tmp_path: Path
) -> None:
    texts = ["thank you, a map is good", "NO 3"]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "what is a map", "completions": texts}) + "\n")
    lines: list[str] = []
    result = score_file(lambda: open_reward("features", store), file, write=lines.append)
    assert result.num_scored == 2
    wanted = [direct(features, text) for text in texts]
    assert [json.loads(line)["reward"] for line in lines] == pytest.approx(wanted)
    asked = Conversation(
        place="a", prompt=Prompt.of("what is a map"), completions=tuple(map(answer, texts))
    )
    with RewardWorker(open_reward(features.run, None)) as worker:
        (scored,) = worker.submit([asked]).result(30)
        rendered = worker.submit([Rendered(place="b", text="<|im_start|>user ...")])
        with pytest.raises(DataError, match="send messages to POST /v1/rewards"):
            rendered.result(30)
    assert scored.rewards == pytest.approx(wanted)


def test_features_and_rules_have_reward_cards(
    features: FitResult, store: Store, tmp_path: Path
) -> None:
    config = RewardCardConfig(data="test", model="features")
    card = reward_card(config, tmp_path / "features", store=store)
    assert card["accuracy"] >= 0.9
    rule = RewardCardConfig(data="test", model="gold:kind")
    result = reward_card(rule, tmp_path / "rule", store=store)
    gold = resolve_gold("kind")
    right = [
        gold.score(row.prompt.messages[0].content, row.chosen[0].content)
        > gold.score(row.prompt.messages[0].content, row.rejected[0].content)
        for row in PAIRS
    ]
    assert result["accuracy"] == pytest.approx(np.mean(right))


def test_a_rule_is_scored_under_its_name(tmp_path: Path) -> None:
    check_reward("gold:kind", None)
    model = open_reward("gold:kind", None)
    tree = answers_tree(model.tokenizer, "a", Prompt.of("what is tea"), [answer("Thank you.")])
    assert model.score([tree]) == [[resolve_gold("kind").score("what is tea", "Thank you.")]]
    with pytest.raises(HeedfulError, match="did you mean 'kind'"):
        check_reward("gold:kinde", None)


def test_ppo_takes_a_reward_on_features(features: FitResult, store: Store, tmp_path: Path) -> None:
    run = fit_ppo(ppo("test", features.run), tmp_path / "ppo", store=store)
    rows = RunDirectory.read_rollouts(Path(run.run))
    assert len(rows) == 4
    for row in rows:
        assert row["reward"] == pytest.approx(direct(features, row["response"]), abs=1e-5)
    with store.read() as tx:
        version = models.get(tx, run.model)
        assert features.model in version.parents
    measured = evaluate(
        EvaluateConfig(
            data="test", model=run.run, reward=features.run, num_prompts=2, best_of=1,
            max_new_tokens=4,
        ),
        tmp_path / "evaluate",
    )  # fmt: skip
    assert measured["judge"] == f"reward {features.run}"


def test_ppo_gives_a_reward_on_another_base_a_trunk_of_its_own(
    tiny_reward: Path, other_base: str, store: Store, tmp_path: Path
) -> None:
    config = ppo(other_base, str(tiny_reward))
    lines = memory_lines("ppo", config, None, testing.prompts(), Means(lays_out=False))
    assert [line.role for line in lines].count("reward's base") == 1
    own = memory_lines("ppo", ppo("test", str(tiny_reward)), None, testing.prompts(),
                       Means(lays_out=False))  # fmt: skip
    assert "reward's base" not in {line.role for line in own}
    run = fit_ppo(config, tmp_path / "ppo", store=store)
    model = open_reward(str(tiny_reward), None)
    asked = {row.messages[0].content: row for row in testing.prompts()}
    for row in RunDirectory.read_rollouts(Path(run.run)):
        prompt = asked[row["prompt"]]
        tree = answers_tree(model.tokenizer, "a", prompt, [answer(row["response"])])
        assert model.score([tree])[0][0] == pytest.approx(row["reward"], abs=1e-4)
    with store.read() as tx:
        found = [models.get(tx, one) for one in models.get(tx, run.model).parents]
        reward = next(one for one in found if one.role == "reward")
        bases = {
            models.get(tx, one).weights_hash
            for one in reward.parents
            if models.get(tx, one).role == "base"
        }
    assert bases == {read_card(tiny_reward).base_hash}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"backbone": "fetures"}, "'adapter' or 'features'"),
        ({"backbone": "features", "epochs": 3}, "epochs is set and backbone is 'features'"),
        ({"backbone": "features", "loss": {"ties": "davidson"}}, "loss.ties is set"),
        ({"backbone": "features", "remedies": {"covariates": "length"}}, "remedies.covariates is"),
    ],
)
def test_settings_that_features_have_no_use_for_are_refused(
    given: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=match):
        fit_reward(resolve(RewardConfig, flags={"data": "test"} | given), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_feature_network_cannot_be_is_said(features: FitResult, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sequence classifier computes"):
        export_classifier(features.run, None, tmp_path / "classifier")
    config = EvaluateConfig(data="test", model=features.run, gold="kind")
    with pytest.raises(DataError, match="is a reward without a model"):
        evaluate(config, tmp_path / "evaluate")
    broken = tmp_path / "broken"
    shutil.copytree(features.path, broken)
    (broken / FEATURES).write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        open_reward(str(broken), None)
