"""The arms of an evaluation: answers to the same prompts, sampled, scored and compared blind.

``start`` (the policy that it was trained from, the opponent), ``control`` (the start policy again,
drawn anew: its win rate must cover one half), ``policy``, and ``best_of_n`` (the start policy's
answer that the reward model likes best, the baseline that needs no training).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from heedful.config import EvaluateConfig
from heedful.data.chat import encode_prompt
from heedful.data.collate import Tree, packed
from heedful.data.examples import last_user_text
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.jobs.progress import progress
from heedful.jobs.rundir import RunDirectory
from heedful.maths.bestofn import best_of_n_kl_bound
from heedful.model.adapter_files import write_text
from heedful.model.forward import logprobs_of
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward
from heedful.reward.texts import ApartReward
from heedful.reward.trained import TrainedReward
from heedful.stats.diversity import distinct_n
from heedful.stats.intervals import Interval, win_rate
from heedful.types import (
    JSON,
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
