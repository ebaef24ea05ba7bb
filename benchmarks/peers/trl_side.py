"""TRL's side of ``heedful bench``: ``python trl_side.py JOB.json`` in an environment of its own.

TRL 1.16 for GRPO, DPO, reward models and SFT; 1.9.0 for PPO, which later versions do not have. A
step is an optimiser step with everything before it: sampling, scoring and the reference. Settings
are TRL's own, but for what a CPU needs (no gradient checkpointing: memory is ample) and the sizes
of the job.
"""

import json
import resource
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset


class Stopwatch(transformers.TrainerCallback):
    """Seconds from the end of one optimiser step to the end of the next."""

    def __init__(self) -> None:
        self.last = 0.0
        self.seconds: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the first step."""
        self.last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """End a step and start the next."""
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def main() -> None:
    """Run the job and print what it cost."""
    with open(sys.argv[1]) as stream:
        job = SimpleNamespace(**json.load(stream))
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = TRAINERS[job.workload](job, scratch, watch)
        trainer.train()
    result = {
        "seconds": watch.seconds[job.warmup :],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "version": f"trl {trl.__version__}",
    }
    print(json.dumps(result))


def common(job: Any, scratch: str) -> dict[str, Any]:
    """Arguments that every trainer takes."""
    return {
        "output_dir": scratch,
        "max_steps": job.warmup + job.steps,
        "learning_rate": job.learning_rate,
        "seed": job.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1000,
    }


def peft(job: Any, task: str) -> Any:
    """LoRA on all linear layers, or None for full fine-tuning."""
    if job.adapter == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=job.rank,
        lora_alpha=job.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type=task,
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )


def language_model(job: Any) -> Any:
    """The start policy in the job's dtype."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        job.model, dtype=getattr(torch, job.dtype)
    )


def classifier(job: Any) -> Any:
    """A model of the same size with one output."""
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        job.model, dtype=getattr(torch, job.dtype), num_labels=1
    )


def tokenizer(job: Any) -> Any:
    """The job's tokeniser, padded on the left."""
    loaded = transformers.AutoTokenizer.from_pretrained(job.model, padding_side="left")
    loaded.pad_token = loaded.pad_token or loaded.eos_token
    return loaded


def conversations(job: Any) -> Dataset:
    """Prompts as conversations of one turn."""
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": text}]} for text in job.prompts]
    )


def ppo(job: Any, scratch: str, watch: Stopwatch) -> Any:
    """Policy, reference, reward and critic."""
    loaded = tokenizer(job)
    rows = [
        loaded.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in job.prompts
    ]
    reward = classifier(job)
    reward.config.pad_token_id = loaded.pad_token_id
    return ppo_trainer(job, scratch, watch, loaded, rows, reward)


def ppo_trainer(
    job: Any, scratch: str, watch: Any, loaded: Any, prompts: list[list[int]], reward: Any
) -> Any:
    """PPO on encoded prompts against a reward model; the rest is the job's."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    rows = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    arguments = common(job, scratch)
    total = arguments.pop("max_steps")
    config = PPOConfig(
        **arguments,
        total_episodes=total * job.count,
        per_device_train_batch_size=job.count,
        gradient_accumulation_steps=1,
        num_ppo_epochs=1,
        num_mini_batches=getattr(job, "minibatches", 1),
        response_length=job.max_new_tokens,
        stop_token="eos",
        temperature=job.temperature,
        kl_coef=job.kl_coef,
        num_sample_generations=0,
    )
    policy = language_model(job)
    adapter = peft(job, "CAUSAL_LM")
    critic = classifier(job)
    critic.config.pad_token_id = loaded.pad_token_id
    return PPOTrainer(
        args=config,
        processing_class=loaded,
        model=policy,
        ref_model=None if adapter else language_model(job),
        reward_model=reward,
        value_model=critic,
        train_dataset=rows,
        eval_dataset=rows.select(range(job.count)),
        peft_config=adapter,
        callbacks=[watch],
    )


def words(completions: list[Any], **_: Any) -> list[float]:
    """Few words: the rule that both sides score with."""
    return [-0.01 * len(one[0]["content"].split()) for one in completions]


def grpo(job: Any, scratch: str, watch: Stopwatch) -> Any:
    """Groups of answers against a rule."""
    config = trl.GRPOConfig(
        **common(job, scratch),
        per_device_train_batch_size=job.count * job.samples_per_prompt,
        num_generations=job.samples_per_prompt,
        max_completion_length=job.max_new_tokens,
        temperature=job.temperature,
        beta=job.kl_coef,
    )
    return trl.GRPOTrainer(
        model=language_model(job),
        processing_class=tokenizer(job),
        reward_funcs=words,
        args=config,
        train_dataset=conversations(job),
        peft_config=peft(job, "CAUSAL_LM"),
        callbacks=[watch],
    )


def dpo(job: Any, scratch: str, watch: Stopwatch) -> Any:
    """Pairs of whole dialogues."""
    config = trl.DPOConfig(
        **common(job, scratch),
        per_device_train_batch_size=job.count,
        max_length=job.max_tokens,
    )
    return trl.DPOTrainer(
        model=language_model(job),
        processing_class=tokenizer(job),
        args=config,
        train_dataset=Dataset.from_list(job.pairs),
        peft_config=peft(job, "CAUSAL_LM"),
        callbacks=[watch],
    )


def reward(job: Any, scratch: str, watch: Stopwatch) -> Any:
    """The same pairs, one score a side."""
    config = trl.RewardConfig(
        **common(job, scratch),
        per_device_train_batch_size=job.count,
        max_length=job.max_tokens,
    )
    return trl.RewardTrainer(
        model=classifier(job),
        processing_class=tokenizer(job),
        args=config,
        train_dataset=Dataset.from_list(job.pairs),
        peft_config=peft(job, "SEQ_CLS"),
        callbacks=[watch],
    )


def sft(job: Any, scratch: str, watch: Stopwatch) -> Any:
    """The chosen sides; the loss on the answers."""
    config = trl.SFTConfig(
        **common(job, scratch),
        per_device_train_batch_size=job.count,
        max_length=job.max_tokens,
    )
    rows = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in job.pairs]
    return trl.SFTTrainer(
        model=language_model(job),
        processing_class=tokenizer(job),
        args=config,
        train_dataset=Dataset.from_list(rows),
        peft_config=peft(job, "CAUSAL_LM"),
        callbacks=[watch],
    )


TRAINERS = {"ppo": ppo, "grpo": grpo, "dpo": dpo, "reward": reward, "sft": sft}

if __name__ == "__main__":
    main()
