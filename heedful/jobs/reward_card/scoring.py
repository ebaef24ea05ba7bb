"""Whose scores a card measures: a reward of ours, a rule, a policy, a classifier or a judge."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heedful.config import RewardCardConfig
from heedful.engine.remote import Remote, checked_url
from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.progress import progress
from heedful.jobs.rewards import check_reward as check_is_reward
from heedful.jobs.rewards import open_reward, reads_texts
from heedful.model.adapter_files import load_role
from heedful.model.trunk import Trunk
from heedful.reward.ensemble import EnsembleReward, EnsembleScorer, load_reward
from heedful.reward.judge import ChoosingScorer, Judge, RatingScorer, Replies
from heedful.reward.mixing import check_mix, in_words
from heedful.reward.scorers import ImplicitScorer, Scored, Scorer, TrainedScorer
from heedful.reward.sequence import ClassifierScorer, is_classifier
from heedful.reward.texts import TextReward, TextScorer
from heedful.store.database import Store
from heedful.types import Preference

REPLIES = "replies.jsonl"
Orders = tuple[Scored, Scored]  # the chosen side first, and last


class NothingScoredError(DataError):
    """Not one of the pairs can be scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a card is of, before anything is loaded. Made by ``find_subject``.

    ``ref`` is a model that Heedful made, or the name of a rule, ``classifier`` the directory of
    another one; a judge has neither. Of these two nothing is known of what they learned from.
    ``reads_texts``: it is a rule or a reward on features.
    """

    ref: models.ModelRef | None = None
    reads_texts: bool = False
    classifier: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A scorer that is ready, and the trunk that it runs on, if it is one of ours."""

    scorer: Scorer
    trunk: Trunk | None = None


def find_subject(config: RewardCardConfig, store: Store | None) -> Subject:
    """What ``config.model`` names; refuses what cannot score before anything is loaded."""
    if config.judge.url is not None:
        if config.beta is not None:
            raise DataError(f"beta is {config.beta} and judge.url is set; a judge has no beta")
        check_no_mix(config)
        checked_url(config.judge.url)
        return Subject()
    directory = Path(config.model)
    ref = models.find_model(config.model, store)
    if models.is_rule(config.model):
        check_rule(config)
        return Subject(ref=ref, reads_texts=True)
    if ref.card() is None and is_classifier(directory):
        if config.beta is not None:
            raise DataError(
                f"{config.model} is a sequence classifier and beta is {config.beta}; leave it out"
            )
        check_no_mix(config)
        return Subject(classifier=directory)
    check_reward(config, ref)
    return Subject(ref=ref, reads_texts=reads_texts(config.model, store))


def check_rule(config: RewardCardConfig) -> None:
    """Refuse a rule that does not exist, and what makes no sense of one."""
    check_is_reward(config.model, None, config.mix)
    if config.beta is not None:
        raise DataError(
            f"{config.model} is a rule and beta is {config.beta}; beta makes a policy the reward, "
            "leave it out"
        )


def check_reward(config: RewardCardConfig, ref: models.ModelRef) -> None:
    """Refuse an adapter that is no reward, and a base."""
    card = ref.card()
    if card is None:
        raise DataError(
            f"{config.model} is no reward model: it is neither the directory of a fit, nor a "
            "registered adapter, nor a sequence classifier of transformers; give a run of heedful "
            "fit reward, or a judge's address with --judge"
        )
    if card.role == "reward" and config.beta is not None:
        raise DataError(
            f"{config.model} is a reward model and beta is {config.beta}; beta makes a policy the "
            "reward, leave it out"
        )
    if card.role != "reward" and config.beta is None:
        raise DataError(
            f"{config.model} is a {card.role} and no reward model; give a run of heedful fit "
            "reward, or measure the reward that a policy implies with --beta, the one that it was "
            "fitted with"
        )
    if config.beta is not None and config.mix is not None:
        raise DataError(
            f"mix is {config.mix!r} and {config.model} is measured as a policy, which has no "
            "parts; leave mix out"
        )
    check_mix(card, config.model, config.mix)


def check_no_mix(config: RewardCardConfig) -> None:
    """Refuse a mix of what has no parts."""
    if config.mix is not None:
        raise DataError(
            f"mix is {config.mix!r} and {config.model} is no reward model of Heedful's, so it has "
            "no parts; leave mix out"
        )


def open_scorer(
    config: RewardCardConfig, subject: Subject, store: Store | None, directory: Path
) -> Opened:
    """Load what scores; a judge keeps its replies in ``directory``."""
    limit = config.tokens_per_micro_step
    if subject.classifier is not None:
        dtype = config.dtype
        return Opened(scorer=ClassifierScorer(subject.classifier, max_tokens=limit, dtype=dtype))
    if subject.ref is None:
        return Opened(scorer=open_judge(config, directory))
    if subject.reads_texts:
        texts = open_reward(config.model, store)
        assert isinstance(texts, TextReward)
        return Opened(scorer=TextScorer(texts))
    trunk, ref = models.open_trunk(subject.ref, dtype=config.dtype), subject.ref
    assert ref.adapter is not None
    if config.beta is None:
        reward, _ = load_reward(trunk, ref.adapter, mix=config.mix)
        if isinstance(reward, EnsembleReward):
            return Opened(scorer=EnsembleScorer(reward, max_tokens=limit), trunk=trunk)
        trained = TrainedScorer(trunk, max_tokens=limit)
        if "reward" in trunk.parts and not trunk.parts["reward"].is_log_odds:
            trained.scale = f"reward model, the mix {mix_of(trunk)} in deviations"
        return Opened(scorer=trained, trunk=trunk)
    reference = models.start_policy(trunk, models.start_of(ref, store))
    load_role(trunk, ref.adapter, "policy")
    scorer = ImplicitScorer(trunk, beta=config.beta, reference=reference, max_tokens=limit)
    return Opened(scorer=scorer, trunk=trunk)


def mix_of(trunk: Trunk) -> str:
    """How the parts of the loaded model are mixed."""
    return in_words(trunk.parts["reward"].mix)


def open_judge(config: RewardCardConfig, directory: Path) -> Scorer:
    """The judge of the config, with its key from the environment."""
    settings = config.judge
    assert settings.url is not None
    remote = Remote(
        url=checked_url(settings.url),
        model=config.model,
        key=os.environ.get(settings.key_from, ""),
        timeout_seconds=settings.timeout_seconds,
        num_tries=settings.num_tries,
    )
    judge = Judge(
        remote,
        replies=Replies(directory / REPLIES),
        num_at_once=settings.num_at_once,
        params={"temperature": 0, "seed": config.seed, "max_tokens": settings.max_new_tokens},
    )
    return ChoosingScorer(judge) if settings.ask == "choice" else RatingScorer(judge)


def score_pairs(
    scorer: Scorer, rows: Sequence[Preference], what: str = "score pairs"
) -> tuple[Scored, Orders | None]:
    """Scores of the pairs; of a scorer that reads pairs the mean of both orders, and each order.

    Raises ``NothingScoredError`` when nothing can be, ``DataError`` for a score that is not finite.
    """
    scored = _scored(scorer, rows, what)
    orders = None
    if scored.pairs and scorer.reads_pairs:
        orders = (scored, _scored(scorer, [row.swap() for row in rows], f"{what}, swapped"))
        scored = both_ways(*orders)
    if not scored.pairs:
        rules = ", ".join(f"{rule}: {num}" for rule, num in scored.drops.items()) or "none"
        raise NothingScoredError(
            f"none of {len(rows)} pairs can be scored; dropped by rule: {rules}; give pairs whose "
            "two answers differ and that the model can read"
        )
    if not np.isfinite(scored.chosen).all() or not np.isfinite(scored.rejected).all():
        raise DataError("a score is not finite; fit the model again")
    return scored, orders


def both_ways(first: Scored, last: Scored) -> Scored:
    """The mean of two orders, in which no preference for a place is left.

    In ``last`` the sides have changed names. Pairs that one order lacks are dropped.
    """
    there = {number: place for place, number in enumerate(last.pairs)}
    kept = [place for place, number in enumerate(first.pairs) if number in there]
    other = [there[first.pairs[place]] for place in kept]
    one_way = len(first.pairs) - len(kept)
    drops = Counter(first.drops) + Counter({"scored_one_way_only": one_way})
    return replace(
        first,
        pairs=tuple(first.pairs[place] for place in kept),
        chosen=(first.chosen[kept] + last.rejected[other]) / 2,
        rejected=(first.rejected[kept] + last.chosen[other]) / 2,
        drops=dict(drops),
    )


def _scored(scorer: Scorer, rows: Sequence[Preference], what: str) -> Scored:
    numbers = {
        "prompts": lambda: len({row.prompt.id for row in rows}),
        "answers": lambda: len({(row.prompt.id, one) for row in rows
                                for one in (row.chosen, row.rejected)}),
        "pairs": lambda: len(rows),
    }  # fmt: skip
    with progress(what, numbers[scorer.counts]()) as advance:
        return scorer.score(rows, advance)
