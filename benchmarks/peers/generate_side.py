"""transformers' ``generate`` as the peer of our engine: ``python generate_side.py JOB.json``.

Prompts are sorted by length and taken in batches of the size that the first, unmeasured step finds
to be the fastest.
"""

import json
import resource
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch
import transformers

BATCH_SIZES = (16, 32, 64, 128)


def main() -> None:
    """Run the job and print what it cost."""
    with open(sys.argv[1]) as stream:
        job = SimpleNamespace(**json.load(stream))
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job.model, dtype=getattr(torch, job.dtype)
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(job.seed)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        for text in job.prompts
    ]

    def run(step: int, size: int) -> float:
        chunk = sorted(texts[step * job.count : (step + 1) * job.count], key=len)
        started = time.perf_counter()
        for first in range(0, len(chunk), size):
            batch = tokenizer(
                chunk[first : first + size],
                padding=True,
                return_tensors="pt",
                add_special_tokens=False,
            ).to(model.device)
            model.generate(
                **batch,
                do_sample=True,
                temperature=job.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=job.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        return time.perf_counter() - started

    sizes: dict[int, float] = {size: run(0, size) for size in BATCH_SIZES if size <= job.count}
    best = min(sizes, key=lambda size: sizes[size])
    result: dict[str, Any] = {
        "seconds": [run(step, best) for step in range(job.warmup, job.warmup + job.steps)],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "version": f"transformers {transformers.__version__} generate, batches of {best}",
        "batch_sizes": {size: round(seconds, 1) for size, seconds in sizes.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
