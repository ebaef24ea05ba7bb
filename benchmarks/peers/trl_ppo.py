"""TRL 1.9.0's PPO against a reward of ours: the peer of ``ppo_learning.py``.

``python trl_ppo.py JOB.json`` in the peer's environment. The reward lives in a process of ours that
``job.scorer`` starts: prompts and answers go out as a line of JSON, scores come back as one. The
last line is the curve, one entry per rollout.
"""

import json
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from trl_side import ppo_trainer, tokenizer


class Scorer:
    """The other end of the pipe."""

    def __init__(self, command: list[str], prompts: list[list[int]]) -> None:
        self.prompts = {tuple(ids) for ids in prompts}
        self.lengths = sorted({len(ids) for ids in prompts}, reverse=True)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, rows: list[list[int]]) -> list[float]:
        """Scores of whole token sequences, prompt and answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        parts = [(ids[:cut], ids[cut:]) for ids in rows for cut in [self.prompt_length(ids)]]
        self.process.stdin.write(json.dumps(parts) + "\n")
        self.process.stdin.flush()
        scores: list[float] = json.loads(self.process.stdout.readline())
        return scores

    def prompt_length(self, ids: list[int]) -> int:
        """How many first tokens are a prompt."""
        return next(cut for cut in self.lengths if tuple(ids[:cut]) in self.prompts)


class RemoteReward(torch.nn.Module):
    """What TRL takes for a reward model: its backbone gives the score at every position."""

    base_model_prefix = "backbone"

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.backbone = Backbone(scorer)
        self.score = torch.nn.Identity()


class Backbone(torch.nn.Module):
    """Sends the tokens that count, and spreads the answer over the row."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        """Scores as the only hidden state, [B, T, 1]."""
        rows = [
            ids[mask].tolist() for ids, mask in zip(input_ids, attention_mask.bool(), strict=True)
        ]
        scores = torch.tensor(self.scorer(rows))[:, None, None]
        return SimpleNamespace(hidden_states=[scores.expand(*input_ids.shape, 1)])


class Curve(transformers.TrainerCallback):
    """Reward and KL of every rollout, with the seconds so far."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.points: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """One entry a rollout."""
        del args, state, control
        if "objective/kl" in logs:
            point = {
                "reward": logs["objective/scores"],
                "kl_nats": logs["objective/kl"],
                "seconds": round(time.perf_counter() - self.started, 1),
            }
            self.points.append(point)
            print(point, file=sys.stderr, flush=True)


def main() -> None:
    """Train, and print the curve."""
    with open(sys.argv[1]) as stream:
        job = SimpleNamespace(**json.load(stream))
    loaded = tokenizer(job)
    # what is padding must not also end the turns of the prompt, or TRL hides those from the models
    if loaded.pad_token == loaded.eos_token:
        loaded.pad_token = loaded.unk_token
    curve = Curve()
    with tempfile.TemporaryDirectory() as scratch:
        reward = RemoteReward(Scorer(job.scorer, job.prompts))
        trainer = ppo_trainer(job, scratch, curve, loaded, job.prompts, reward)
        trainer.args.logging_steps = 1
        trainer.train()
    print(json.dumps(curve.points))


if __name__ == "__main__":
    main()
