"""A reward model beside the people it learned from: pandalm-human, three annotators a pair.

    python benchmarks/pandalm.py --data pandalm-human.jsonl.gz --out benchmarks/results

Pairs are halved by prompt. A reward model is fitted to all three annotators' answers to one half
and asked about the other, and the other way round, so that every pair is judged by a model that has
not seen it. Its choice is compared with the majority of the three, and, as each annotator's is,
with the majority of the others. Ties of annotators neither teach nor are predicted: answers that
are ties count neither for people nor for the model. The interval against the majority takes the
pairs of one prompt together; the others resample pairs.
"""

import argparse
import csv
import gzip
import io
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import RewardConfig, resolve
from heedful.data.examples import answer
from heedful.exchange.importing import import_preferences
from heedful.jobs import models
from heedful.jobs.fit import fit_reward
from heedful.model.adapter_files import load_role
from heedful.reward.scorers import TrainedScorer
from heedful.stats.agreement_intervals import krippendorff_alpha_interval, raw_agreement
from heedful.stats.ceiling import human_ceiling
from heedful.stats.consensus import majority
from heedful.stats.intervals import Interval, share_by_cluster
from heedful.stats.votes import encode_votes
from heedful.store import open_store
from heedful.types import Preference, Prompt

PEOPLE = ("annotator1", "annotator2", "annotator3")
JUDGEMENTS = {0: "tie", 1: "1", 2: "2"}
MAX_TOKENS = 1024


def prompt_of(row: dict[str, Any]) -> str:
    """What was asked."""
    return "\n\n".join(filter(None, (row["instruction"], row["input"])))


def csv_lines(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in our CSV, a line for each answer of a person."""

    names = ("prompt", "answer_1", "answer_2", "judgement", "annotator")
    with io.StringIO() as text:
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        for row in rows:
            sides = {"answer_1": row["response1"], "answer_2": row["response2"]}
            for person in PEOPLE:
                said = {"judgement": JUDGEMENTS[row[person]], "annotator": person}
                writer.writerow({"prompt": prompt_of(row), **sides, **said})
        return text.getvalue()


def choices(
    train: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]],
    model: str,
    seed: int,
    overrides: Sequence[str],
    scratch: Path,
) -> tuple[dict[int, str], dict[str, Any]]:
    """What a model fitted to ``train`` prefers in ``test``, by the row's number; and the fit."""
    file = scratch / "train.csv"
    file.write_text(csv_lines(train))
    with open_store(scratch / "pandalm.db") as store:
        read = import_preferences(store, "csv", [file], dataset="train")
        flags = {"data": "train", "model": model, "seed": seed}
        config = resolve(RewardConfig, overrides=["held_out_share=0", *overrides], flags=flags)
        fitted = fit_reward(config, scratch / "run", store=store)
    trunk = models.open_trunk(models.find_model(fitted.path, None), dtype=config.dtype)
    load_role(trunk, Path(fitted.path), "reward")
    asked = [
        Preference(
            prompt=Prompt.of(prompt_of(row)),
            chosen=answer(row["response1"]),
            rejected=answer(row["response2"]),
        )
        for row in test
    ]
    scored = TrainedScorer(trunk, max_tokens=MAX_TOKENS).score(asked)
    found = {
        test[place]["number"]: "1" if delta > 0 else "2"
        for place, delta in zip(scored.pairs, scored.deltas, strict=True)
    }
    cost = {"answers": read.num_answers, "seconds": fitted.metrics["seconds"]}
    return found, cost | {"dropped": dict(read.drops_by_rule) | dict(scored.drops)}


def named(name: str, one: Interval) -> dict[str, object]:
    """A number with its interval."""
    return {name: round(one.value, 4), f"{name}_ci": [round(one.low, 4), round(one.high, 4)]}


def main() -> None:
    """Fit twice, compare with people, and append a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2", help="'test' tries the runner in a minute")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("overrides", nargs="*", help="of every fit")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with gzip.open(given.data, "rt") as lines:
        read = [json.loads(line) | {"number": number} for number, line in enumerate(lines)]
    # some answers of the file are no text
    rows = [row for row in read if all(isinstance(row[f"response{n}"], str) for n in (1, 2))]
    for seed in given.seeds:
        rng = np.random.default_rng(seed)
        prompts = sorted({prompt_of(row) for row in rows})
        first = set(rng.permutation(prompts)[: len(prompts) // 2].tolist())
        halves = [[row for row in rows if (prompt_of(row) in first) == side] for side in (1, 0)]
        predicted: dict[int, str] = {}
        fits = []
        for train, test in (halves, halves[::-1]):
            with tempfile.TemporaryDirectory() as place:
                found, fit = choices(train, test, given.model, seed, given.overrides, Path(place))
            predicted |= found
            fits.append(fit)
        row = compare(rows, predicted, rng) | {
            "left_out": len(read) - len(rows),
            "model": given.model,
            "seed": seed,
            "overrides": given.overrides,
            "fits": fits,
            "date": date.today().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "note": given.note,
        }
        with (given.out / "pandalm.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(row, flush=True)


def compare(
    rows: Sequence[dict[str, Any]], predicted: dict[int, str], rng: np.random.Generator
) -> dict[str, Any]:
    """People with each other, and the model with them, on the pairs that it was asked about."""
    known = [row for row in rows if row["number"] in predicted]
    said = [
        (str(row["number"]), person, JUDGEMENTS[row[person]]) for row in known for person in PEOPLE
    ]
    everything = encode_votes(*zip(*said, strict=True))
    decided = encode_votes(*zip(*(one for one in said if one[2] != "tie"), strict=True))
    prompts = {str(row["number"]): prompt_of(row) for row in known}
    ceiling = human_ceiling(
        decided, {item: predicted[int(item)] for item in decided.items}, rng=rng
    )
    against = [
        (predicted[int(item)] == label, prompts[item])
        for item, label in zip(everything.items, majority(everything).labels, strict=True)
        if label not in (None, "tie")
    ]
    right, clusters = zip(*against, strict=True)
    assert ceiling.model is not None
    assert ceiling.lead is not None
    return {
        "pairs": len(known),
        "with_majority": len(right),
        **named("accuracy", share_by_cluster(np.array(right, dtype=float), np.array(clusters))),
        **named("model_of_others", ceiling.model),
        **named("person_of_others", ceiling.human),
        **named("lead", ceiling.lead),
        **named("agreement", raw_agreement(everything.counts())),
        **named("agreement_decided", raw_agreement(decided.counts())),
        **named("alpha", krippendorff_alpha_interval(everything.counts(), rng=rng)),
    }


if __name__ == "__main__":
    main()
