"""``heedful ask``: sample candidate answers and queue them as the tasks of a project."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from heedful.data.chat import encode_prompt
from heedful.data.examples import answer
from heedful.data.formats import Drop, read_files
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.jobs import models
from heedful.jobs.fit.base import is_in_store, load_rows
from heedful.jobs.progress import progress
from heedful.store import completions, projects
from heedful.store.database import Store
from heedful.types import Completion, Project, Prompt, SamplingParams, Task

NUM_SLOTS = 64
MAX_TASKS_PER_PROMPT = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How candidates are drawn: ``num_samples`` answers of every model to every prompt."""

    num_samples: int
    max_new_tokens: int = 128
    temperature: float = 0.8
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskResult:
    """What was queued; ``num_tasks`` counts the tasks that were new."""

    project: str
    num_prompts: int
    num_completions: int
    num_tasks: int


def ask(
    store: Store,
    project: Project,
    prompts: Sequence[Prompt],
    names: Sequence[str],
    sampling: Sampling,
) -> AskResult:
    """Make the project if it is new, sample, and queue; asking the same again adds nothing.

    A project that is there keeps its settings. Every prompt becomes one task with all its
    candidates if the form takes that many, else one task for every combination. Raises
    ``DataError`` when there are too few or far too many.
    """
    shown = num_shown(project.form, len(names) * sampling.num_samples)
    with store.write() as tx:
        known = {one.dataset: one for one in projects.list_all(tx)}
        if project.dataset not in known:
            projects.add(tx, project)
        elif known[project.dataset].form != project.form:
            raise DataError(
                f"project {project.dataset!r} asks {known[project.dataset].form!r}, not "
                f"{project.form!r}; name another project"
            )
    found: dict[str, list[Completion]] = {prompt.id: [] for prompt in prompts}
    for name in names:
        for one in sample(store, name, prompts, sampling):
            found[one.prompt.id].append(one)
    num_new = 0
    with store.write() as tx:
        for prompt in prompts:
            completions.add(tx, found[prompt.id])
        tasks = [task for prompt in prompts for task in tasks_of(project, found[prompt.id], shown)]
        num_new = projects.add_tasks(tx, project.dataset, tasks)
    return AskResult(
        project=project.dataset,
        num_prompts=len(prompts),
        num_completions=sum(map(len, found.values())),
        num_tasks=num_new,
    )


def num_shown(form: str, num_candidates: int) -> int:
    """How many candidates a task shows; raises ``DataError`` when the form cannot."""
    low, high = FORMS[form].num_completions
    if num_candidates < low:
        raise DataError(
            f"{form} compares at least {low} answers and there is {num_candidates} to a prompt; "
            "name two models, or draw --samples 2"
        )
    shown = min(num_candidates, high)
    num_tasks = sum(1 for _ in combinations(range(num_candidates), shown))
    if num_tasks > MAX_TASKS_PER_PROMPT:
        raise DataError(
            f"{num_candidates} candidates make {num_tasks} tasks of a prompt; the most is "
            f"{MAX_TASKS_PER_PROMPT}: draw fewer --samples"
        )
    return shown


def tasks_of(project: Project, candidates: Sequence[Completion], shown: int) -> list[Task]:
    """The tasks of one prompt. Candidates that say the same are shown once."""
    distinct = list({one.messages: one for one in candidates}.values())
    low, _ = FORMS[project.form].num_completions
    if len(distinct) < low:
        return []
    return [
        Task(
            form=project.form,
            prompt=group[0].prompt,
            completion_ids=tuple(one.id for one in group),
            reason="all",
        )
        for group in combinations(distinct, min(shown, len(distinct)))
    ]


def sample(
    store: Store, name: str, prompts: Sequence[Prompt], sampling: Sampling
) -> list[Completion]:
    """Answers of a model; each depends on the seed, its prompt and its number only."""
    ref = models.find_model(name, store)
    trunk = models.open_trunk(ref, dtype="auto")
    role = models.start_policy(trunk, ref)
    author = models.version_of(store, trunk, ref).id
    engine = LocalEngine(trunk, num_slots=NUM_SLOTS)
    size = max(1, NUM_SLOTS // sampling.num_samples)
    found = []
    with progress(f"sample {name}", len(prompts)) as advance:
        for start in range(0, len(prompts), size):
            wanted = [
                (prompt, draw)
                for prompt in prompts[start : start + size]
                for draw in range(sampling.num_samples)
            ]
            params = [
                SamplingParams(
                    max_new_tokens=sampling.max_new_tokens,
                    temperature=sampling.temperature,
                    seed=sample_seed(sampling.seed, prompt, draw),
                )
                for prompt, draw in wanted
            ]
            requests = [
                Request(prompt=encode_prompt(trunk.tokenizer, prompt), params=one, role=role)
                for (prompt, _), one in zip(wanted, params, strict=True)
            ]
            for (prompt, draw), one, made in zip(
                wanted, params, engine.sample(requests), strict=True
            ):
                found.append(
                    Completion(
                        prompt=prompt,
                        messages=answer(made.text),
                        model=author,
                        draw=draw,
                        finish_reason=made.finish_reason,
                        params={"temperature": one.temperature, "seed": one.seed},
                    )
                )
            advance(len(wanted) // sampling.num_samples)
    return found


def sample_seed(seed: int, prompt: Prompt, draw: int) -> int:
    """The seed of one answer."""
    digest = hashlib.sha256(f"{seed} {prompt.id} {draw}".encode()).digest()
    return int.from_bytes(digest[:4])


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsRead:
    """The distinct prompts of a source in order, and how many rows gave none, by rule."""

    prompts: list[Prompt]
    drops: Mapping[str, int]


def read_prompts(store: Store, source: str, scratch: Path) -> PromptsRead:
    """The prompts of a data set in the store, or of a JSON Lines file."""
    path = Path(source)
    is_known = is_in_store(store, source)
    if not is_known and path.suffix in (".jsonl", ".json", ".gz") and not path.exists():
        raise MissingError(f"file {path} does not exist; give an existing file or a data set")
    drops: Counter[str] = Counter()
    found: list[Prompt] = []
    if not is_known and path.is_file():
        for one in read_files("trl", [path]):
            if isinstance(one, Drop):
                drops[one.rule] += 1
            else:
                found.append(one.record if isinstance(one.record, Prompt) else one.record.prompt)
    else:
        found = load_rows(store, source, "prompt", scratch).rows
    if not found:
        counted = "".join(f"; {num} {rule}" for rule, num in sorted(drops.items()))
        raise DataError(f"{source} holds no prompt; give rows with a 'prompt'{counted}")
    return PromptsRead(prompts=list(dict.fromkeys(found)), drops=dict(sorted(drops.items())))
