"""The worker's side of the chat: registered models write drafts, piece by piece."""

from functools import lru_cache
from pathlib import Path

from heedful.data.chat import encode_prompt
from heedful.data.examples import answer
from heedful.engine.base import Request
from heedful.engine.local import LocalEngine
from heedful.errors import DataError
from heedful.jobs import models
from heedful.jobs.models import ModelRef
from heedful.model.trunk import Trunk
from heedful.store import chat
from heedful.store import models as model_table
from heedful.store.database import Store
from heedful.types import JSON, Completion, SamplingParams
from heedful.web.chat_writing import Writer


@lru_cache(maxsize=1)
def loaded(base: str, adapter: Path | None, weights: str | None) -> tuple[Trunk, str | None]:
    """The model that was talked to last stays loaded; other jobs clear it.

    ``weights`` is the adapter's hash: a directory that was fitted again is loaded again.
    """
    del weights
    ref = ModelRef(base=base, adapter=adapter)
    trunk = models.open_trunk(ref, dtype="auto")
    return trunk, models.start_policy(trunk, ref)


def write_draft(store: Store, draft_id: str) -> dict[str, JSON]:
    """Write a draft, and keep it as a completion of the exact version."""
    with store.read() as tx:
        draft = chat.get_draft(tx, draft_id)
        if draft.state in ("done", "failed"):
            return {"draft": draft_id}
        settings = chat.settings_of(tx, draft.chat)
        prompt = chat.prompt_of(tx, draft.chat, draft.turn)
        version = model_table.get(tx, draft.target)
    ref = models.find_model(version.id, store)
    own = ref.as_parent()
    trunk, role = loaded(ref.base, ref.adapter, own.weights_hash if own else None)
    found = own.weights_hash if own else trunk.base.weights_hash
    if found != version.weights_hash:
        raise DataError(
            f"model {version.id} has weights {version.weights_hash[:8]} and {version.path} now "
            f"holds {found[:8]}: it was fitted again; talk to the newest model of that directory"
        )
    writer = Writer(store, draft_id)
    params = SamplingParams(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        seed=draft.seed,
    )
    tokens = encode_prompt(trunk.tokenizer, prompt)
    (sample,) = LocalEngine(trunk, num_slots=1).sample(
        [Request(prompt=tokens, params=params, role=role)],
        on_text=lambda _, piece: writer.push(piece),
    )
    completion = Completion(
        prompt=prompt,
        messages=answer(sample.text),
        model=version.id,
        draw=draft.place,
        finish_reason=sample.finish_reason,
        params={
            "temperature": settings.temperature,
            "seed": draft.seed,
            "max_new_tokens": settings.max_new_tokens,
        },
    )
    with store.write() as tx:
        is_kept = chat.complete(tx, draft, completion)
    return {"draft": draft_id} | ({"completion": completion.id} if is_kept else {})
