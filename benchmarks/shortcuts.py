"""Remedies against a reward that follows length, side by side: every remedy on the same pairs.

    python benchmarks/shortcuts.py --out benchmarks/results
    python benchmarks/shortcuts.py --data DIR --model smollm2 --seeds 0 --choose 0.5 dtype=bfloat16

Without ``--data`` the task is simulated: an answer has six words of substance, good or bad, between
empty ones; who chooses likes the better substance and, by ``LIKES_LENGTH``, the longer answer. Of
that task the truth is known, so accuracy is also measured against people who do not mind length
(``unbiased``). ``DIR`` holds ``train.jsonl.gz`` and ``dev.jsonl.gz`` in the form of HH;
``--choose`` measures on that share of the training prompts instead of dev, as ``reward_hh.py``
does. Measures are those of the reward card.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from heedful.config import RewardConfig, resolve
from heedful.data.examples import answer
from heedful.data.snapshot import freeze, split_by_prompt
from heedful.exchange.importing import import_preferences
from heedful.jobs import models
from heedful.jobs.fit import fit_reward
from heedful.jobs.fit.base import frozen_rows
from heedful.jobs.reward_card.measure import About, measure
from heedful.jobs.reward_card.people import Background
from heedful.model.adapter_files import load_role
from heedful.reward.scorers import TrainedScorer
from heedful.stats.intervals import Interval, share_by_cluster
from heedful.store import open_store
from heedful.types import Preference, Prompt

REMEDIES = {
    "none": [],
    "length-balanced": ["remedies.length_bins=5"],
    "length penalty": ["remedies.length_penalty=auto"],
    "length as covariate": ["remedies.covariates=length"],
    "style as covariates": ["remedies.covariates=style"],
    "length head (ODIN)": ["remedies.length_head=true"],
}
GOOD = ("clear", "kind", "true", "useful", "exact", "warm", "sound", "fair")
BAD = ("vague", "rude", "false", "idle", "wrong", "cold", "hollow", "unjust")
EMPTY = ("well", "so", "then", "also", "just", "really", "indeed", "basically")
NUM_WORDS = 6  # of substance in an answer
MOST_EMPTY = 24
LIKES_QUALITY, LIKES_LENGTH = 6.0, 2.5  # log-odds of all good against all bad; and by log length
NUM_TRAIN, NUM_TEST = 600, 600


def simulate(seed: int, num: int, likes_length: float, first: int = 0) -> list[Preference]:
    """Pairs with one prompt each; prompts are numbered from ``first``."""
    rng = np.random.default_rng([seed, first, num])
    rows = []
    for number in range(first, first + num):
        texts, worth = [], []
        for _ in range(2):
            is_good = rng.random(NUM_WORDS) < rng.random()
            words = [str(rng.choice(GOOD if good else BAD)) for good in is_good]
            empty = [str(one) for one in rng.choice(EMPTY, size=rng.integers(MOST_EMPTY + 1))]
            said = [str(one) for one in rng.permutation([*words, *empty])]
            texts.append(" ".join(said))
            worth.append(LIKES_QUALITY * is_good.mean() + likes_length * np.log(len(said)))
        is_first = rng.random() < 1 / (1 + np.exp(worth[1] - worth[0]))
        chosen, rejected = texts if is_first else texts[::-1]
        rows.append(
            Preference(
                prompt=Prompt.of(f"question {number}"),
                chosen=answer(chosen),
                rejected=answer(rejected),
            )
        )
    return rows


def read(data: Path, scratch: Path) -> dict[str, list[Preference]]:
    """Train and dev of a directory in the form of HH."""
    found = {}
    with open_store(scratch / "pairs.db") as store:
        for split in ("train", "dev"):
            name = f"hh-{split}"
            import_preferences(store, "hh", [data / f"{split}.jsonl.gz"], dataset=name)
            found[split] = frozen_rows(store, name, "preference", scratch).rows
    return found


def accuracy(scorer: TrainedScorer, rows: Sequence[Preference]) -> Interval:
    """Share of pairs in the right order."""
    scored = scorer.score(rows)
    deltas = (scored.chosen - scored.rejected).mean(axis=1)
    return share_by_cluster((np.sign(deltas) + 1) / 2, [rows[n].prompt.id for n in scored.pairs])


def named(name: str, one: Interval | None) -> dict[str, object]:
    """A number with its interval."""
    if one is None:
        return {name: None, f"{name}_ci": None}
    return {name: round(one.value, 4), f"{name}_ci": [round(one.low, 4), round(one.high, 4)]}


def run(
    remedy: str,
    seed: int,
    train: Sequence[Preference],
    test: Sequence[Preference],
    unbiased: Sequence[Preference],
    scratch: Path,
    settings: Sequence[str],
    model: str,
) -> dict[str, object]:
    """Fit with one remedy and measure on the test pairs."""
    data = freeze(train, "preference", scratch).path
    flags = {"data": data, "model": model, "seed": seed}
    overrides = ["held_out_share=0", *settings, *REMEDIES[remedy]]
    config = resolve(RewardConfig, overrides=overrides, flags=flags)
    started = time.process_time()
    fitted = fit_reward(config, scratch / f"{remedy}-{seed}".replace(" ", "-"))
    ref = models.find_model(fitted.path, None)
    trunk = models.open_trunk(ref, dtype=config.dtype)
    load_role(trunk, Path(fitted.path), "reward")
    scorer = TrainedScorer(trunk, max_tokens=1024)
    about = About(model=remedy, data="test", scale=scorer.scale, seed=seed, num_learned=0)
    card = measure(about, test, scorer.score(test), Background())
    matched = card.matched.accuracy if card.matched else None
    return {
        "remedy": remedy,
        "seed": seed,
        "model": model,
        "settings": list(settings),
        "num_train": len(train),
        "num_test": len(test),
        **named("accuracy", card.measured.accuracy),
        **named("matched", matched),
        **named("correlation", card.correlations.get("length")),
        **(named("unbiased", accuracy(scorer, unbiased)) if unbiased else {}),
        "seconds": fitted.metrics["seconds"],
        "cpu_seconds": round(time.process_time() - started, 1),
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def main() -> None:
    """Measure every remedy with every seed; append a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="simulated when it is left out")
    parser.add_argument("--model", default="test")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--remedies", nargs="+", default=list(REMEDIES), choices=list(REMEDIES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--choose", type=float, default=0.0, help="share of training held out")
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    simulated = given.data is None
    if simulated and given.choose:
        parser.error("--choose holds out training pairs of --data; simulated pairs are drawn anew")
    given.out.mkdir(parents=True, exist_ok=True)
    # the tiny model learns faster than a real one may
    settings = [*(["optimiser.learning_rate=1e-3"] if given.model == "test" else ()),
                *given.overrides]  # fmt: skip
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as place:
            scratch = Path(place)
            if simulated:
                train = simulate(seed, NUM_TRAIN, LIKES_LENGTH)
                test = simulate(seed, NUM_TEST, LIKES_LENGTH, first=NUM_TRAIN)
                unbiased = simulate(seed, NUM_TEST, 0.0, first=NUM_TRAIN + NUM_TEST)
            else:
                found = read(given.data, scratch)
                train, test, unbiased = found["train"], found["dev"], []
                if given.choose:
                    train, test = split_by_prompt(train, given.choose, seed)
            for remedy in given.remedies:
                row = run(
                    remedy, seed, train, test, unbiased, scratch, settings, given.model
                )  # fmt: skip
                row |= {"task": "simulated" if simulated else given.data.name}
                row |= {"choose": given.choose, "note": given.note}
                with (given.out / "shortcuts.jsonl").open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
