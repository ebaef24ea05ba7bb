"""Synthetic results for tests of reports: plausible shapes, no run behind them."""

from typing import Any

import numpy as np

from heedful.monitor.demo_report import DemoData

HOSTILE = "<script>alert('x')</script>&\"</details></style>"
PROMPTS = (
    "How do I ask a neighbour to turn the music down?",
    "What should I cook for a friend who is feeling low?",
    "Explain photosynthesis to a ten year old.",
    "I missed a deadline. How do I tell my manager?",
    "Suggest a name for a small bakery by the sea.",
    "Why is the sky red in the evening?",
    "How can I sleep better before an exam?",
    "Write two lines to thank a teacher.",
    "What is a good first houseplant?",
    "How do I start running after a long break?",
    "My bread never rises. What could be wrong?",
    "How do I say no to an invitation politely?",
)
BEFORE = (
    "The best way is to talk to them directly. You should explain that the noise is a problem and "
    "that you need them to stop, and if they do not"
)
AFTER = (
    "Happy to help! A friendly knock works well: say hello, mention the time, and ask kindly "
    "whether they could lower it a little. Thank you for being considerate!"
)


def curve(num: int = 20, *, seed: int = 0, **columns: Any) -> list[dict[str, Any]]:
    """A healthy PPO curve; ``columns`` replace quantities by their own sequences."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, num)
    values: dict[str, Any] = {
        "reward": -0.05 + 1.3 * (1 - np.exp(-2.5 * t)) + 0.13 * rng.normal(size=num),
        "gold": 0.42 + 0.16 * (1 - np.exp(-2.5 * t)) + 0.02 * rng.normal(size=num),
        "kl_nats": np.maximum(7.5 * t**1.3 + 0.25 * rng.normal(size=num) * t, -0.01),
        "kl_coef": 0.05 * np.exp(-0.2 * t),
        "response_tokens": 37 + rng.normal(size=num),
        "entropy_nats": 1.75 - 0.35 * t + 0.04 * rng.normal(size=num),
        "clip_share": np.abs(0.02 + 0.01 * rng.normal(size=num)),
        "explained_variance": 0.55 * (1 - np.exp(-4 * t)) + 0.04 * rng.normal(size=num),
        "finished_rate": 0.2 + 0.1 * t + 0.03 * rng.normal(size=num),
        "grad_norm": np.abs(0.5 + 0.1 * rng.normal(size=num)),
        "clipped_loss": -0.05 + 0.02 * rng.normal(size=num),
        "value_loss": 0.25 + 0.9 * np.exp(-5 * t) + 0.04 * rng.normal(size=num),
    } | columns
    return [
        {"rollout": i} | {name: float(column[i]) for name, column in values.items()}
        for i in range(num)
    ]


def arm(win: float, half: float = 0.08, **more: Any) -> dict[str, Any]:
    """One arm of an evaluation on 120 prompts."""
    wins = round(120 * win) - 5
    return {
        "win_rate": win, "win_rate_ci": [win - half, win + half], "wins": wins, "ties": 10,
        "losses": 110 - wins, "tokens": 38.4, "finished_rate": 0.21, "distinct_1": 0.48,
        "distinct_2": 0.89, "unique_rate": 1.0, "proxy": 0.02, "gold": 0.43, "kl": 0.0,
        "kl_ci": [0.0, 0.0], **more,
    }  # fmt: skip


def evaluation(**changes: Any) -> dict[str, Any]:
    """A clear win with a control that covers one half."""
    arms = {
        "policy": arm(0.733, kl=7.2, kl_ci=[6.7, 7.7], gold=0.57, proxy=1.15, tokens=37.1,
                      distinct_2=0.84, distinct_1=0.43, finished_rate=0.3),
        "best_of_n": arm(0.621, kl=0.636, kl_ci=None, gold=0.48, proxy=0.78),
        "control": arm(0.492, gold=0.425),
        "start": arm(0.5),
    }  # fmt: skip
    return {
        "num_prompts": 120, "win_rate": 0.733, "win_rate_ci": [0.648, 0.804], "kl": 7.2,
        "kl_ci": [6.7, 7.7], "length_ratio": 0.97, "arms": arms,
    } | changes  # fmt: skip


def deltas(num: int = 190, seed: int = 1) -> list[float]:
    """Score differences of a calibrated reward model that is right about three times in four."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0, 1.6, num))
    right = rng.random(num) < 1 / (1 + np.exp(-size))
    return [round(float(d), 5) for d in np.where(right, size, -size)]


def demo_data(**changes: Any) -> DemoData:
    """A whole demo."""
    rng = np.random.default_rng(2)
    differences = deltas()
    accuracy = float(np.mean(np.array(differences) > 0))
    fields: dict[str, Any] = {
        "gold": "kind",
        "gold_statement": "Warm and courteous: positive in tone, with thanks, wishes or "
        "encouragement, in 12 to 45 words, without repetition.",
        "noise": 0.1,
        "model": "SmolLM2-135M-Instruct (synthetic results)",
        "seed": 0,
        "settings": {
            "reward.epochs": 1, "reward.adapter.rank": 16, "reward.optimiser.learning_rate": 1e-4,
            "policy.kl.coef": 0.05, "policy.kl.target": 8.0, "policy.kl.limit": 40.0,
            "policy.kl.horizon": 1000.0, "policy.ppo.clip_range": 0.2, "policy.ppo.epochs": 1,
            "policy.optimiser.learning_rate": 1e-3, "policy.reward": "runs/demo/reward",
            "evaluation.num_prompts": 120, "evaluation.best_of": 4, "evaluation.gold": "kind",
        },
        "environment": {"heedful": "0.1.0", "python": "3.11.2", "torch": "2.9.0",
                        "transformers": "5.23.1", "machine": "Linux x86_64, 2 threads"},
        "label_counts": {"comparisons": 960, "strict": 873, "ties": 87, "flipped": 94},
        "reward": {"accuracy": accuracy, "accuracy_ci": [accuracy - 0.065, accuracy + 0.06],
                   "ece": 0.052, "temperature": 1.08, "num_train": 680,
                   "num_held_out": len(differences), "ceiling": 0.9, "deltas": differences},
        "reward_curve": [
            {"step": i, "reward/loss_nats": 0.69 - 0.16 * (1 - np.exp(-i / 50))
             + 0.06 * rng.normal(), "reward/accuracy_rate": float(np.clip(
                 0.55 + 0.18 * (1 - np.exp(-i / 50)) + 0.1 * rng.normal(), 0, 1))}
            for i in range(170)
        ],
        "ppo_curve": curve(),
        "evaluation": evaluation(),
        "gold_parts": {
            "start": {"warmth": 0.31, "courtesy": 0.22, "length": 0.71, "variety": 0.88},
            "policy": {"warmth": 0.58, "courtesy": 0.49, "length": 0.83, "variety": 0.86},
        },
        "samples": [
            {"prompt": prompt, "before": BEFORE, "after": AFTER if i != 4 else BEFORE[:60],
             "score_before": 0.31 + 0.01 * i, "score_after": 0.62 - 0.02 * i if i != 4 else 0.2}
            for i, prompt in enumerate(PROMPTS)
        ],
        "lengths": {"start": rng.normal(28, 4, 120).round().astype(int).tolist(),
                    "policy": rng.normal(27, 3, 120).round().astype(int).tolist()},
        "lineage": [
            ("base model", "mdl_0123456789abcdef"), ("preference snapshot", "snp_0123456789abcdef"),
            ("reward model", "mdl_123456789abcdef0"), ("prompt snapshot", "snp_123456789abcdef0"),
            ("policy", "mdl_23456789abcdef01"), ("evaluation", "evd_3456789abcdef012"),
        ],
        "timings": {"sample and annotate": 96.2, "reward model": 118.4, "ppo": 341.7,
                    "evaluate": 104.3},
        "seconds": 660.6,
        "peak_memory_gb": 2.7,
        "next_commands": ["heedful trace mdl_23456789abcdef01 --store runs/demo/heedful.db",
                          "heedful demo --gold concise --out runs/demo-concise"],
    }  # fmt: skip
    return DemoData(**fields | changes)


def best_of_n() -> list[dict[str, Any]]:
    """Best of n at its bound on KL."""
    return [
        {"n": n, "kl": float(np.log(n) - (n - 1) / n), "proxy": 0.02 + 0.42 * np.log(n),
         "gold": 0.43 + 0.035 * np.log(n)}
        for n in (1, 2, 4, 8)
    ]  # fmt: skip
