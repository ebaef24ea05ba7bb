"""``evaluate``: a policy against its start, blind and order-randomised; or a reward model on pairs.

Prompts that the model or its parents were fitted to are left out.

Arms: ``start`` (the policy that it was trained from, the opponent), ``control`` (the start policy
again, drawn anew: its win rate must cover one half), ``policy``, and ``best_of_n`` (the start
policy's answer that the reward model likes best, the baseline that needs no training).
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heedful.config import EvaluateConfig, RewardCardConfig
from heedful.data import testing
from heedful.data.chat import encode_prompt
from heedful.data.collate import Tree, packed
from heedful.data.examples import answer, feedback_trees, last_user_text
from heedful.data.snapshot import prompt_of
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.errors import ConfigError, DataError
from heedful.jobs import fit, models, rewards
from heedful.jobs.progress import progress
from heedful.jobs.recording import recorded, run_record
from heedful.jobs.rundir import RunDirectory
from heedful.maths.bestofn import best_of_n_kl_bound
from heedful.model.adapter_files import AdapterCard, load_role, write_text
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward, load_reward
from heedful.reward.mixing import check_mix
from heedful.reward.texts import ApartReward
from heedful.reward.trained import TrainedReward
from heedful.stats.diversity import distinct_n
from heedful.stats.intervals import Interval, win_rate
from heedful.store import completions as completion_table
from heedful.store import runs as run_table
from heedful.store.database import Store
from heedful.types import (
    JSON,
    Completion,
    Evidence,
    ModelVersion,
    Prompt,
    Sample,
    SamplingParams,
)

Judge = Callable[[Sequence[str], Sequence[str], Sequence[str], int], list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer in an evaluation: which arm gave it to which prompt, and what it was worth."""

    arm: str
    prompt: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    kl_nats: float
    proxy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Rows to evaluate on; ``num_learned`` were left out, None when that could not be told."""

    rows: list[Any]
    num_learned: int | None


def evaluate(config: EvaluateConfig, out: Path, *, store: Store | None = None) -> dict[str, JSON]:
    """Evaluate whatever ``config.model`` is; returns the result that is also written to ``out``."""
    ref = models.find_model(config.model, store)
    card = ref.card()
    is_reward = card is not None and card.role == "reward"
    check_mixes(config, card if is_reward else None, store)
    kind = "feedback" if is_reward else "prompt"
    data = fit.load_rows(store, config.data, kind, out)
    snapshot = data.snapshot.id if data.snapshot else None
    judges = [] if is_reward else judges_of(config, store)
    is_known = config.reward is None or not rewards.is_classifier(config.reward, store)
    held_out = leave_out_learned(data.rows, config, ref, *judges, is_known=is_known)
    run = RunDirectory(out, "evaluate", config, snapshot=snapshot)
    done = run.result()
    if done is not None:
        return done
    measure = evaluate_reward if is_reward else evaluate_policy
    with run.held(), recorded(store, run_record(run, config, snapshot)):
        trunk = models.open_trunk(ref, dtype=config.dtype)
        result = measure(config, trunk, ref, held_out.rows, run, store)
        result["num_learned"] = held_out.num_learned
        if store is not None:
            save_evidence(store, trunk, ref, result)
        run.finish(result)
    return result


def check_mixes(config: EvaluateConfig, card: AdapterCard | None, store: Store | None) -> None:
    """Refuse a mix that the model, or the reward that judges it, cannot have."""
    if card is not None:
        check_mix(card, config.model, config.mix)
    elif config.mix is not None and config.reward is None:
        raise ConfigError(f"mix is {config.mix!r} and there is no reward to mix; give --reward")
    elif config.reward is not None:
        rewards.check_reward(config.reward, store, config.mix)


def judges_of(config: EvaluateConfig, store: Store | None) -> list[models.ModelRef]:
    """The reward model that judges or chooses answers, where there is one."""
    if config.reward is None or not rewards.is_ours(config.reward, store):
        return []
    return [models.find_model(config.reward, store)]


def leave_out_learned(
    rows: Sequence[Any],
    config: EvaluateConfig | RewardCardConfig,
    *refs: models.ModelRef,
    is_known: bool = True,
) -> HeldOut:
    """The rows whose prompts none of the models and their parents was fitted to.

    Without ``is_known`` another model has a say of which nobody knows what it learned from: then
    there is no claim about held-out data.
    ``test`` is there to try the commands and is kept whole, without a claim. Raises ``DataError``
    when no row is left.
    """
    learned = fit.learned_from(refs, ())
    if learned is None or config.data == testing.NAME:
        print(
            f"not checked whether {config.model} has learned from {config.data}: no claim about "
            "held-out data",
            file=sys.stderr,
        )
        return HeldOut(rows=list(rows), num_learned=None)
    kept = [row for row in rows if prompt_of(row).id not in learned]
    if not kept:
        raise DataError(
            f"{config.model}, a model that it builds on or its judge was fitted to the prompts of "
            f"all {len(rows)} rows of {config.data}; evaluate on another data set with --data"
        )
    num_learned = len(rows) - len(kept)
    if not is_known:
        print("not known what the reward has learned from: no claim about held-out data",
              file=sys.stderr)  # fmt: skip
    if num_learned:
        print(
            f"{num_learned} of {len(rows)} rows are left out: their prompts were learned from",
            file=sys.stderr,
        )
    return HeldOut(rows=kept, num_learned=num_learned if is_known else None)


def evaluate_reward(
    config: EvaluateConfig,
    trunk: Trunk,
    ref: models.ModelRef,
    rows: Sequence[Any],
    run: RunDirectory,
    store: Store | None,
) -> dict[str, JSON]:
    """Accuracy, ECE and score differences of a reward model on feedback it has not seen."""
    del run, store
    assert ref.adapter is not None
    reward, _ = load_reward(trunk, ref.adapter, mix=config.mix)
    ensemble = reward if isinstance(reward, EnsembleReward) else None
    limit = config.tokens_per_micro_step
    encoded = feedback_trees(trunk.tokenizer, rows, max_tokens=trunk.max_tokens)
    trees = encoded.require("feedback").trees
    metrics = fit.feedback_metrics(trunk, trees, limit, seed=config.seed, ensemble=ensemble)
    if "accuracy" not in metrics:
        raise DataError(
            f"{config.data} has no two answers that were told apart, in {len(rows)} rows; evaluate "
            "on feedback that prefers one answer to another"
        )
    return metrics | {"drops": dict(encoded.drops)}


def evaluate_policy(
    config: EvaluateConfig,
    trunk: Trunk,
    ref: models.ModelRef,
    rows: Sequence[Prompt],
    run: RunDirectory,
    store: Store | None,
) -> dict[str, JSON]:
    """Sample all arms on the same prompts, judge them blind, and measure the distance moved."""
    prompts = rows[: config.num_prompts]
    start = models.start_of(ref, store)
    start_role = models.start_policy(trunk, start)
    if ref.adapter is not None:
        load_role(trunk, ref.adapter, "policy")
    reward: Any = None
    if config.reward is not None:
        reward, _ = fit.open_reward(config.reward, trunk, store, None, config.mix)
    judge = gold_judge(config.gold) if config.gold else None
    if judge is None and reward is None:
        raise DataError("nothing to judge with; give gold=NAME or reward=MODEL")
    arms = sample_arms(config, trunk, prompts, run, start_role)
    if isinstance(reward, ApartReward):
        arms = with_proxy_apart(arms, prompts, reward)
    elif reward is not None:
        arms = with_proxy(arms, trunk, prompts, reward, config.tokens_per_micro_step)
    if reward is not None:
        arms["best_of_n"] = best_of(arms, config.best_of)
    result = compare(config, arms, judge)
    result["start"] = str(start.adapter or start.base)
    result["samples"] = [asdict(answer) | {"token_ids": None} for arm in arms.values()
                         for answer in arm]  # fmt: skip
    if store is not None:
        authors = {"start": models.version_of(store, trunk, start)}
        authors["policy"] = models.version_of(store, trunk, ref)
        save_completions(store, authors, prompts, arms, config)
    return result


def gold_judge(name: str) -> Judge:
    """The gold preference as a blind judge of two texts."""
    from heedful.annotators.golds import resolve_gold
    from heedful.annotators.simulated import compare_blind

    gold = resolve_gold(name)

    def judge(
        prompts: Sequence[str], texts: Sequence[str], opponents: Sequence[str], seed: int
    ) -> list[float]:
        return list(compare_blind(gold, prompts, texts, opponents, seed))

    return judge


def sample_arms(
    config: EvaluateConfig,
    trunk: Trunk,
    prompts: Sequence[Prompt],
    run: RunDirectory,
    start: str | None,
) -> dict[str, list[Answer]]:
    """Answers by arm, sampled in chunks; a chunk that is on disk already is read back.

    ``start`` is the role of the start policy.
    """
    own = ["start", *(f"start_{i + 1}" for i in range(config.best_of))]
    seeds = {
        name: np.random.SeedSequence([config.seed, 4, number]).generate_state(len(prompts))
        for number, name in enumerate([*own, "policy"])
    }
    arms: dict[str, list[Answer]] = {name: [] for name in seeds}
    with progress("sample held-out", len(seeds) * len(prompts)) as advance:
        for author, names in (("start", own), ("policy", ["policy"])):
            size = max(1, config.num_slots // len(names))
            for first in range(0, len(prompts), size):
                chunk = prompts[first : first + size]
                file = run.path / f"answers-{author}-{first:06d}.json"
                if file.exists():
                    rows = json.loads(file.read_text())
                    answers = [Answer(**r | {"token_ids": tuple(r["token_ids"])}) for r in rows]
                    advance(len(answers))
                else:
                    draws = [
                        (name, prompt, int(seeds[name][first + offset]))
                        for offset, prompt in enumerate(chunk)
                        for name in names
                    ]
                    answers = sample_answers(config, trunk, draws, author, start, advance)
                    write_text(file, json.dumps([asdict(answer) for answer in answers]))
                for given in answers:
                    arms[given.arm].append(given)
    return arms


def sample_answers(
    config: EvaluateConfig,
    trunk: Trunk,
    draws: Sequence[tuple[str, Prompt, int]],
    author: str,
    start: str | None,
    advance: Callable[..., None],
) -> list[Answer]:
    """One answer per (arm, prompt, seed) with its log-ratio to the role ``start``."""
    requests = [
        Request(
            prompt=encode_prompt(trunk.tokenizer, prompt),
            params=SamplingParams(
                max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=seed
            ),
            role="policy" if author == "policy" else start,
        )
        for _, prompt, seed in draws
    ]
    engine = LocalEngine(trunk, num_slots=config.num_slots)
    samples = engine.sample(requests, on_finish=lambda *_: advance(1))
    ratios = [0.0] * len(samples)
    if author == "policy":
        ratios = log_ratios(trunk, requests, samples, config, start)
    return [
        Answer(
            arm=name,
            prompt=last_user_text(prompt),
            text=sample.text,
            token_ids=sample.token_ids,
            finish_reason=sample.finish_reason,
            kl_nats=ratio,
        )
        for (name, prompt, _), sample, ratio in zip(draws, samples, ratios, strict=True)
    ]


def log_ratios(
    trunk: Trunk,
    requests: Sequence[Request],
    samples: Sequence[Sample],
    config: EvaluateConfig,
    start: str | None,
) -> list[float]:
    """Summed log-ratio of every answer to the start policy: an unbiased estimate of KL, in nats."""
    trees = [
        Tree(id=str(i), prompt=request.prompt, responses=(sample.token_ids,))
        for i, (request, sample) in enumerate(zip(requests, samples, strict=True))
    ]
    reference: list[float] = []
    with progress("distance moved", len(trees)) as advance:
        for batch in packed(trees, trunk.device, config.tokens_per_micro_step, advance):
            rows = logprobs_of(trunk, batch, start, temperature=config.temperature)
            reference += rows.sum(dim=1).tolist()
    return [sum(s.logprobs) - r for s, r in zip(samples, reference, strict=True)]


@torch.no_grad()
def with_proxy(
    arms: dict[str, list[Answer]],
    trunk: Trunk,
    prompts: Sequence[Prompt],
    reward: TrainedReward | EnsembleReward,
    max_tokens: int,
) -> dict[str, list[Answer]]:
    """The same answers with the reward model's score; one prompt's answers share its tokens."""
    names = list(arms)
    trees = [
        Tree(
            id=str(i),
            prompt=encode_prompt(trunk.tokenizer, prompt),
            responses=tuple(arms[name][i].token_ids for name in names),
        )
        for i, prompt in enumerate(prompts)
    ]
    # the answers of all arms together may be longer than a micro-step
    limit = max(max_tokens, *(tree.num_tokens + len(tree.responses) for tree in trees))
    with progress("score held-out", len(trees)) as advance:
        scores = reward.score_trees(trees, limit, advance)
    return {
        name: [
            Answer(**asdict(arms[name][i]) | {"proxy": scores[i][k]}) for i in range(len(prompts))
        ]
        for k, name in enumerate(names)
    }


def with_proxy_apart(
    arms: dict[str, list[Answer]], prompts: Sequence[Prompt], reward: ApartReward
) -> dict[str, list[Answer]]:
    """The same answers with the score of a reward that reads texts."""
    scored = {}
    with progress("score held-out", len(arms)) as advance:
        for name, answers in arms.items():
            asked = [(prompt, one.text) for prompt, one in zip(prompts, answers, strict=True)]
            scores = reward.score_answers(asked)
            scored[name] = [
                Answer(**asdict(one) | {"proxy": score})
                for one, score in zip(answers, scores, strict=True)
            ]
            advance(1)
    return scored


def best_of(arms: dict[str, list[Answer]], n: int) -> list[Answer]:
    """Per prompt the candidate of the start policy with the highest proxy."""
    candidates = zip(*(arms[f"start_{i + 1}"] for i in range(n)), strict=True)
    best = [max(group, key=lambda answer: answer.proxy or 0.0) for group in candidates]
    return [Answer(**asdict(answer) | {"arm": "best_of_n"}) for answer in best]


def compare(
    config: EvaluateConfig, arms: dict[str, list[Answer]], judge: Judge | None
) -> dict[str, JSON]:
    """Win rates against the start answers, and how each arm writes."""
    arms = dict(arms)
    arms["control"] = arms["start_1"]
    shown = [name for name in ("policy", "best_of_n", "control") if name in arms]
    start = arms["start"]
    results: dict[str, JSON] = {}
    for number, name in enumerate(shown):
        outcomes = judged(config, arms[name], start, judge, number)
        interval = half_point_interval(outcomes)
        results[name] = describe(arms[name]) | {
            "win_rate": interval.value,
            "win_rate_ci": [interval.low, interval.high],
            "wins": outcomes.count(1.0),
            "ties": outcomes.count(0.5),
            "losses": outcomes.count(0.0),
        }
    results["start"] = describe(start)
    policy = results["policy"]
    if "best_of_n" in results:
        # A bound of what the candidates were drawn from, not a mean of what was measured.
        bound = float(best_of_n_kl_bound(config.best_of))
        results["best_of_n"] |= {"kl": bound, "kl_ci": None}
    return {
        "num_prompts": len(start),
        "judge": config.gold or f"reward {config.reward}",
        "win_rate": policy["win_rate"],
        "win_rate_ci": policy["win_rate_ci"],
        "kl": policy["kl"],
        "kl_ci": policy["kl_ci"],
        "length_ratio": policy["tokens"] / results["start"]["tokens"],
        "arms": results,
    }


def judged(
    config: EvaluateConfig,
    answers: Sequence[Answer],
    start: Sequence[Answer],
    judge: Judge | None,
    number: int,
) -> list[float]:
    """1, one half or 0 per prompt: by the gold, or by proxy when there is no gold."""
    if judge is not None:
        prompts = [answer.prompt for answer in start]
        texts = [answer.text for answer in answers]
        return judge(prompts, texts, [answer.text for answer in start], config.seed + number)
    pairs = zip(answers, start, strict=True)
    signs = [np.sign((a.proxy or 0.0) - (b.proxy or 0.0)) for a, b in pairs]
    return [float(0.5 + 0.5 * sign) for sign in signs]


def half_point_interval(outcomes: Sequence[float]) -> Interval:
    """Win rate with ties as one half."""
    return win_rate(
        sum(outcome == 1.0 for outcome in outcomes),
        sum(outcome == 0.5 for outcome in outcomes),
        sum(outcome == 0.0 for outcome in outcomes),
    )


def describe(answers: Sequence[Answer]) -> dict[str, JSON]:
    """Length, endings, diversity, proxy and distance of one arm.

    The distance has no interval (None) when there is one prompt, which shows no variation.
    """
    texts = [answer.text for answer in answers]
    kl = np.array([answer.kl_nats for answer in answers])
    mean = float(kl.mean())
    half = 1.96 * float(kl.std(ddof=1)) / len(kl) ** 0.5 if len(kl) > 1 else None
    proxies = [answer.proxy for answer in answers if answer.proxy is not None]
    return {
        "tokens": float(np.mean([len(answer.token_ids) for answer in answers])),
        "finished_rate": float(np.mean([answer.finish_reason == "stop" for answer in answers])),
        "distinct_1": float(distinct_n(texts, 1)),
        "distinct_2": float(distinct_n(texts, 2)),
        "unique_rate": len(set(texts)) / len(texts),
        "proxy": float(np.mean(proxies)) if proxies else None,
        "kl": mean,
        "kl_ci": None if half is None else [mean - half, mean + half],
    }


def save_completions(
    store: Store,
    authors: Mapping[str, ModelVersion],
    prompts: Sequence[Prompt],
    arms: dict[str, list[Answer]],
    config: EvaluateConfig,
) -> None:
    """Every sampled answer as a Completion of the model that wrote it: the policy or its start."""
    rows = [
        Completion(
            prompt=prompt,
            messages=answer(given.text),
            model=authors["policy" if name == "policy" else "start"].id,
            draw=number,
            finish_reason=given.finish_reason,
            params={"temperature": config.temperature, "seed": config.seed, "evaluation": True},
        )
        for number, (name, arm) in enumerate(arms.items())
        if name != "best_of_n"
        for prompt, given in zip(prompts, arm, strict=True)
    ]
    with store.write() as tx:
        completion_table.add_prompts(tx, prompts)
        completion_table.add(tx, rows)


def save_evidence(
    store: Store, trunk: Trunk, ref: models.ModelRef, result: dict[str, JSON]
) -> None:
    """The headline claim as Evidence about the model."""
    name, ci = ("win_rate", "win_rate_ci") if "win_rate" in result else ("accuracy", "accuracy_ci")
    if name not in result:
        return
    version = models.version_of(store, trunk, ref)
    # what the reward model says of the policy that was trained to please it is no win rate
    by = (
        ", by the reward model (proxy)"
        if str(result.get("judge", "")).startswith("reward ")
        else ""
    )
    on = "data it may have learned from" if result["num_learned"] is None else "held-out data"
    evidence = Evidence(
        model=version.id,
        test=f"{name} on {on}{by}",
        value=float(result[name]),
        low=float(result[ci][0]),
        high=float(result[ci][1]),
        num=int(result["num_prompts" if name == "win_rate" else "num_held_out"]),
        detail={k: v for k, v in result.items() if k not in ("samples", "deltas", "arms")},
    )
    with store.write() as tx:
        run_table.add_evidence(tx, evidence)
