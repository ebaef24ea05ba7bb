"""How well does the reward model's score of an unfinished answer foretell its final score?

    python benchmarks/score_so_far.py OUT [OUT ...]

``OUT`` is the directory of a finished demo. Its answers to the labelling prompts, sampled from the
start policy, are scored after every token. ``slope`` is of the final score on the score so far,
through 0, the mean score: the factor that the critic starts with is ``n / (n + 8)``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from heedful.data.chat import encode_prompt, encode_response
from heedful.data.collate import Tree, collate
from heedful.jobs import models
from heedful.jobs.fit import open_reward
from heedful.model.forward import hidden_states
from heedful.reward.trained import HALF_SHRUNK, TrainedReward
from heedful.store import completions as completion_table
from heedful.store import open_store

AFTER = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36)


def measure(out: Path) -> dict[str, object]:
    """Correlation and slope after n tokens, over the answers that are longer than n."""
    config = json.loads((out / "config.json").read_text())["config"]
    trunk = models.open_trunk(models.find_model(config["model"], None), dtype="auto")
    reward, _ = open_reward(str(out / "reward"), trunk, None, None)
    assert isinstance(reward, TrainedReward)
    with open_store(out / "heedful.db") as store:
        base = models.register_base(store, trunk)
        with store.read() as tx:
            rows = completion_table.by_models(tx, base.id)
    answers = [row for row in rows if not row.params.get("evaluation")]
    so_far: dict[int, list[float]] = {n: [] for n in AFTER}
    final: dict[int, list[float]] = {n: [] for n in AFTER}
    for row in answers:
        tree = Tree(
            id=row.id,
            prompt=encode_prompt(trunk.tokenizer, row.prompt),
            responses=(encode_response(trunk.tokenizer, row.prompt, row.messages),),
        )
        batch = collate([tree], trunk.device)
        with torch.no_grad():
            states = hidden_states(trunk, batch, reward.feature_role)
            score = reward.score(batch, states, ()).item()
            shrunk = reward.score_so_far(batch, states).tolist()
        for n in AFTER:
            if n < len(shrunk):
                so_far[n].append(shrunk[n] * (n + HALF_SHRUNK) / n)
                final[n].append(score)
    table = []
    for n in AFTER:
        x, y = np.array(so_far[n]), np.array(final[n])
        table.append(
            {
                "tokens": n,
                "answers": len(x),
                "correlation": round(float(np.corrcoef(x, y)[0, 1]), 3),
                "slope": round(float(x @ y / (x @ x)), 3),
                "start": round(n / (n + HALF_SHRUNK), 3),
            }
        )
    return {"gold": config["gold"], "seed": config["seed"], "rows": table}


def main() -> None:
    """Parse, measure, and append one row per demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for demo in options.demos:
        result = measure(demo)
        with (options.out / "score_so_far.jsonl").open("a") as stream:
            stream.write(json.dumps(result) + "\n")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
