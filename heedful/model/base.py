"""Resolve a base model by name: the embedded one, ``test``, a directory, or a hub name."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from heedful.errors import DataError, MissingError
from heedful.model import embedded, tiny
from heedful.model.attention import NAME as ATTENTION
from heedful.model.device import default_device, default_dtype
from heedful.types import content_id

WINDOWED = "sliding_attention"
ATTENDS = {"full_attention", WINDOWED}  # of the kinds of layers that transformers names


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen base model with its tokeniser. Made by ``load_base``, used by the trunk.

    ``weights_hash`` identifies the weights; an adapter of another hash is refused.
    """

    name: str
    path: str
    weights_hash: str
    model: Any
    tokenizer: Any

    @property
    def stop_id(self) -> int:
        """The token that the chat template ends a turn with."""
        stop: int = self.tokenizer.eos_token_id
        return stop

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a turn."""
        stops = {self.tokenizer.eos_token_id}
        configured = self.model.generation_config.eos_token_id
        stops |= set(configured if isinstance(configured, list) else [configured])
        return frozenset(stop for stop in stops if stop is not None)

    @property
    def logit_scale(self) -> float:
        """What the model multiplies its logits by: Cohere's scale, or one over Granite's."""
        config = self.model.config
        scale = getattr(config, "logit_scale", None) or 1.0
        return float(scale / (getattr(config, "logits_scaling", None) or 1.0))

    @property
    def max_tokens(self) -> int:
        """The longest sequence it has positions for and attends to as a whole."""
        config = self.model.config
        length: int = config.max_position_embeddings
        kinds = getattr(config, "layer_types", None) or (WINDOWED,)
        window = getattr(config, "sliding_window", None) if WINDOWED in kinds else None
        return min(length, window or length)


def load_base(
    name: str, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Base:
    """Load ``test``, ``smollm2`` (embedded), a directory, or a name in the local hub cache.

    The compute dtype is the faster of bfloat16 and float32 on the device unless given. No remote
    code is run and only safetensors are read. Raises ``MissingError`` when nothing answers to the
    name, ``DataError`` when the model has no chat template or computes in a way that we do not.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    device = device or default_device()
    dtype = dtype or (torch.float32 if name == tiny.NAME else default_dtype(device))
    path, weights_hash = resolve(name)
    tokenizer = AutoTokenizer.from_pretrained(path)
    if not tokenizer.chat_template:
        raise DataError(
            f"model {name} has no chat template; Heedful trains on conversations: add one to "
            "tokenizer_config.json or choose an instruct model"
        )
    if tokenizer.eos_token_id is None:
        raise DataError(f"model {name} has no eos token; without it no answer can end")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        attn_implementation=ATTENTION,
        use_safetensors=True,
        output_loading_info=True,
    )
    model, found = loaded
    refuse_other_weights(name, found)
    refuse_unsupported(name, model)
    if name == tiny.NAME:
        torch.set_num_threads(1)  # threads cost more than they bring on matrices of 32 columns
    model.to(device).eval().requires_grad_(False)
    return Base(name, str(path), weights_hash, model, tokenizer)


def refuse_other_weights(name: str, found: dict[str, Any]) -> None:
    """Raise ``DataError`` for weights that the files lack, or that are a classifier's.

    ``found`` is what transformers tells of loading; it draws missing weights at random.
    """
    missing = sorted(found["missing_keys"])
    if missing:
        raise DataError(
            f"model {name} lacks {len(missing)} of its weights ({', '.join(missing):.200}), which "
            "would be drawn at random; give a directory with a whole language model"
        )
    if any(key.startswith("score.") for key in found["unexpected_keys"]):
        raise DataError(
            f"model {name} is a sequence classifier, whose score would be lost; give a language "
            "model, or measure the classifier with heedful evaluate reward"
        )


def refuse_unsupported(name: str, model: Any) -> None:
    """Raise ``DataError`` for caps, a bias of the output, and layers that do not attend."""
    found: dict[str, Any] = {
        key: getattr(model.config, key, None)
        for key in ("final_logit_softcapping", "attn_logit_softcapping")
    }
    bias = getattr(model.get_output_embeddings(), "bias", None)
    found["lm_head.bias"] = None if bias is None else bias.abs().max().item() or None
    kinds = set(getattr(model.config, "layer_types", None) or ()) - ATTENDS
    found["layer_types"] = ", ".join(sorted(kinds)) or None
    for key, value in found.items():
        if value is not None:
            raise DataError(
                f"model {name} has {key} {value}, which is not supported and would make every "
                "log-probability wrong; choose a model without it"
            )


def resolve(name: str) -> tuple[Path, str]:
    """Directory and weights hash of a model name."""
    if name == tiny.NAME:
        path = _cached("test", tiny.write_model)
        return path, directory_hash(path)
    if name.lower() in embedded.ALIASES:
        path = _cached(embedded.CACHE_NAME, embedded.convert)
        return path, directory_hash(path)
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise MissingError(f"{name} is a directory without config.json; give a model directory")
        return path, directory_hash(path)
    return _from_hub(name)


def _from_hub(name: str) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.jinja", "*.model"]
        path = Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        known = ", ".join(sorted({tiny.NAME, *embedded.ALIASES}))
        raise MissingError(
            f"unknown model {name!r}: not a directory, not one of {known}, and the hub did not "
            f"answer ({type(error).__name__}); check the spelling or give a path"
        ) from None
    return path, directory_hash(path)


def cache_directory() -> Path:
    """Where converted models live: ``$HEEDFUL_CACHE`` or ``~/.cache/heedful``."""
    return Path(os.environ.get("HEEDFUL_CACHE", Path.home() / ".cache" / "heedful"))


def _cached(name: str, write: Any) -> Path:
    """``cache/models/name``, written once under a temporary name and renamed when whole."""
    target = cache_directory() / "models" / name
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        write(partial)
        try:
            partial.rename(target)
        except OSError:  # another process was first; its copy is the same
            if not (target / "config.json").exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def directory_hash(path: Path) -> str:
    """Content hash of config and weights; remembered beside the weights in the cache only."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise MissingError(f"{path} holds no *.safetensors; other weight formats are not read")
    stamp = content_id("stamp", [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files])
    key = content_id("dir", str(path.resolve()))
    memo = cache_directory() / "hashes" / f"{key}.json"
    if memo.exists():
        remembered = json.loads(memo.read_text())
        if remembered["stamp"] == stamp:
            return str(remembered["hash"])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    result = digest.hexdigest()[:32]
    memo.parent.mkdir(parents=True, exist_ok=True)
    memo.write_text(json.dumps({"stamp": stamp, "hash": result}))
    return result
