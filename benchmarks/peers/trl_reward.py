"""TRL's RewardTrainer on hh-harmless, for a budget of processor time or for whole epochs: the peer
of ``reward_hh.py``.

    python benchmarks/peers/trl_reward.py --data DIR --seconds 900 --seeds 0 1 2
    python benchmarks/peers/trl_reward.py --data DIR --epochs 1 --dtype bfloat16 --seeds 0

``--choose 0.5`` measures on that share of the training prompts instead of dev, by the same split
as ``reward_hh.py --choose``, in ``reward_hh_choice_trl.jsonl``.
TRL's own defaults, except for the learning rate, steps of 8 pairs one by one (the same gradient
without padding and with less memory), no gradient checkpointing, and nothing saved. The
learning rate falls linearly, over the budget or the epochs. ``bfloat16`` is that of autocast, on
float32 weights. The clock is the processor time of all threads, which other work on the machine
does not stop; it starts at the first step, so that loading is not held against it. The rows are
those that ``heedful import hh`` keeps, so both sides see the same pairs. Its environment needs
SciPy beside TRL, for our readers and intervals.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from scipy.special import expit

from heedful.data.formats import read_files
from heedful.data.snapshot import split_by_prompt
from heedful.model.base import resolve
from heedful.stats.calibration import ece, ece_by_halves
from heedful.stats.intervals import wilson
from heedful.types import Message, Preference

PAIRS_PER_STEP = 8
PAIRS_PER_PART = 1
MAX_LENGTH = 1024  # of TRL's RewardConfig


def pairs_to_learn_and_measure(
    options: argparse.Namespace, seed: int
) -> tuple[list[Preference], list[Preference]]:
    """Train and dev, or the two sides of train."""
    train = preferences(options.data / "train.jsonl.gz")
    if options.choose:
        return split_by_prompt(train, options.choose, seed)
    return train, preferences(options.data / "dev.jsonl.gz")


def preferences(file: Path) -> list[Preference]:
    """What ``heedful import hh`` keeps of a file."""
    records = [one.record for one in read_files("hh", [file]) if hasattr(one, "record")]
    return [record for record in records if isinstance(record, Preference)]


def rows(pairs: Sequence[Preference]) -> Dataset:
    """Preferences as conversational prompt, chosen and rejected."""

    def plain(messages: tuple[Message, ...]) -> list[dict[str, str]]:
        return [{"role": message.role, "content": message.content} for message in messages]

    return Dataset.from_list(
        [
            {
                "prompt": plain(record.prompt.messages),
                "chosen": plain(record.chosen),
                "rejected": plain(record.rejected),
            }
            for record in pairs
        ]
    )


class Clock(transformers.TrainerCallback):
    """Counts the time; stops after a budget, and drives the learning rate by the share used."""

    def __init__(self, seconds: float | None, peak: float) -> None:
        self.seconds, self.peak = seconds, peak
        self.started = self.wall = 0.0
        self.optimizer: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the rate of the coming step."""
        del args, state, control
        self.started = self.started or time.process_time()
        self.wall = self.wall or time.monotonic()
        if self.seconds is None:
            return
        used = (time.process_time() - self.started) / self.seconds
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = self.peak * max(1.0 - used, 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the training when the time is up."""
        del args, kwargs
        used = time.process_time() - self.started
        print(f"step {state.global_step} of {state.max_steps}, {used:.0f} s used", flush=True)
        control.should_training_stop |= self.seconds is not None and used >= self.seconds


def run(options: argparse.Namespace, model: Path, seed: int, scratch: Path) -> dict[str, Any]:
    """Train within the budget, then measure once on the pairs that were not learned from."""
    config = trl.RewardConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=PAIRS_PER_PART,
        gradient_accumulation_steps=PAIRS_PER_STEP // PAIRS_PER_PART,
        num_train_epochs=options.epochs or 1,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear" if options.epochs else "constant",
        max_length=MAX_LENGTH,
        gradient_checkpointing=False,
        use_cpu=True,
        model_init_kwargs={"dtype": "float32"},
        bf16=options.dtype == "bfloat16",
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=5,
    )
    train, held_out = pairs_to_learn_and_measure(options, seed)
    clock = Clock(options.seconds, options.learning_rate)
    trainer = trl.RewardTrainer(
        model=str(model),
        args=config,
        train_dataset=rows(train),
        callbacks=[clock],
    )
    trainer.train()
    cpu_seconds, seconds = time.process_time() - clock.started, time.monotonic() - clock.wall
    deltas = measure(trainer, rows(held_out))
    accuracy = wilson(float((deltas > 0).sum() + 0.5 * (deltas == 0).sum()), len(deltas))
    return {
        "peer": f"trl {trl.__version__} RewardTrainer",
        "seed": seed,
        "learning_rate": options.learning_rate,
        "budget_seconds": options.seconds,
        "epochs": options.epochs,
        "dtype": options.dtype,
        "pairs_seen": min(
            trainer.state.global_step * PAIRS_PER_STEP, round(len(train) * config.num_train_epochs)
        ),
        "num_held_out": len(deltas),
        "nll": float(np.mean(np.logaddexp(0.0, -deltas))),
        "accuracy": accuracy.value,
        "accuracy_ci": [accuracy.low, accuracy.high],
        "deltas": deltas.round(3).tolist(),
        "online_accuracy": online_accuracy(trainer),
        "ece": ece(expit(deltas), np.ones(len(deltas))),
        **calibrated(deltas),
        "fit_seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def calibrated(deltas: np.ndarray) -> dict[str, float]:
    """ECE after scaling; a prompt here has one pair."""
    try:
        scaled, floor = ece_by_halves(deltas, np.arange(len(deltas)) % 2 == 0)
    except ValueError:  # a half that is all right or no better than chance
        return {}
    return {"ece_scaled": scaled, "ece_floor": floor}


def online_accuracy(trainer: trl.RewardTrainer) -> float | None:
    """Accuracy on the pairs of the second half of an epoch, each before it is learned from.

    A mean of what the trainer logged every few steps; None where it logged nothing.
    """
    logged = [one["accuracy"] for one in trainer.state.log_history if "accuracy" in one]
    if not logged:
        return None
    return float(np.mean(logged[len(logged) // 2 :]))


@torch.no_grad()
def measure(trainer: trl.RewardTrainer, pairs: Dataset) -> np.ndarray:
    """Score of the chosen minus the rejected side of every pair, as TRL renders and cuts it."""
    tokenizer: Any = trainer.processing_class
    trainer.model.eval()

    def score(messages: list[dict[str, str]]) -> float:
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"][:MAX_LENGTH]
        return float(trainer.model(input_ids=torch.tensor([ids])).logits[0, 0])

    return np.array(
        [
            score(row["prompt"] + row["chosen"]) - score(row["prompt"] + row["rejected"])
            for row in pairs
        ]
    )


def main() -> None:
    """Parse and append one row per seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds", type=float, help="of all threads, in training")
    budget.add_argument("--epochs", type=float, help="through all pairs, whatever it takes")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--choose", type=float, default=0.0, help="share of training held out")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--note", default="alone", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    model, _ = resolve(options.model)
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            row = run(options, model, seed, Path(scratch)) | {"note": options.note}
        name = "reward_hh_choice_trl.jsonl" if options.choose else "reward_hh_trl.jsonl"
        with (options.out / name).open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print({key: value for key, value in row.items() if key != "deltas"}, flush=True)


if __name__ == "__main__":
    main()
