"""Adapters and heads on disk: peft's layout in safetensors, written whole or not at all."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from heedful.errors import DataError, MissingError
from heedful.model.lora import peft_names
from heedful.model.trunk import AdapterSettings, Trunk

WEIGHTS = "adapter_model.safetensors"
HEAD = "head.safetensors"
CARD = "heedful.json"
LEARNED = "learned.json"
LINK = "link/"  # before the names of a head's thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """An adapter that another builds on: the policy that it started from, the reward it served."""

    role: str
    path: str
    weights_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCard:
    """What an adapter directory says about itself.

    ``mean`` and ``std`` normalise a reward to mean 0 and deviation 1 on its start policy. Without a
    policy among its ``parents`` the adapter started from the base.
    """

    role: str
    base: str
    base_hash: str
    has_head: bool
    mean: float = 0.0
    std: float = 1.0
    pooling: str = "last"
    parents: tuple[Parent, ...] = ()


def write_directory(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a directory under a temporary name beside ``target``, then rename it into place.

    What was there stays until then. Who may read other new files may read these.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    old = target.with_name(f".{target.name}-old")
    partial.mkdir()
    try:
        write(partial)
        readable = partial.stat().st_mode & 0o666  # as the umask has it; safetensors writes 0600
        for path in partial.rglob("*"):
            if path.is_file():
                path.chmod(readable)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def save_role(
    trunk: Trunk,
    role: str,
    target: Path,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    parents: tuple[Parent, ...] = (),
    learned: frozenset[str] | None = None,
) -> str:
    """Write a role's adapter, head and links; returns the hash of its weights.

    ``learned`` are the ids of the prompts that it or its parents were fitted to; None: not known.
    """

    def write(directory: Path) -> None:
        tensors = {}
        for path, layer in trunk.layers.items():
            if role in layer.scale:
                for which, name in peft_names(path):
                    tensors[name] = getattr(layer, which)[role].detach().cpu().contiguous()
        save_file(tensors, directory / WEIGHTS)
        if role in trunk.heads:
            head = {k: v.detach().cpu() for k, v in trunk.heads[role].state_dict().items()}
            links = {f"{LINK}{k}": v.detach().cpu() for k, v in trunk.links.get(role, {}).items()}
            save_file(head | links, directory / HEAD)
        card = AdapterCard(
            role=role.partition("/")[0],
            base=trunk.base.name,
            base_hash=trunk.base.weights_hash,
            has_head=role in trunk.heads,
            mean=mean,
            std=std,
            pooling=trunk.pooling.get(role, "last"),
            parents=parents,
        )
        settings = trunk.adapters[role]
        write_json(directory / "adapter_config.json", peft_config(trunk, settings))
        write_json(directory / CARD, asdict(card))
        if learned is not None:
            write_json(directory / LEARNED, {"prompts": sorted(learned)})

    write_directory(target, write)
    return weights_hash(target)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def peft_config(trunk: Trunk, settings: AdapterSettings) -> dict[str, Any]:
    """The adapter_config.json that peft reads."""
    names = sorted({path.rpartition(".")[2] for path in trunk.layers})
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": trunk.base.path,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "target_modules": names,
        "layers_to_transform": list(range(settings.first_layer, settings.depth)),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def weights_hash(directory: Path) -> str:
    """Content hash of adapter and head."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, HEAD):
        if (directory / name).exists():
            digest.update((directory / name).read_bytes())
    return digest.hexdigest()[:32]


def read_card(directory: Path) -> AdapterCard:
    """The card of an adapter directory; refuses a directory that is not one."""
    try:
        fields = json.loads((directory / CARD).read_text())
    except FileNotFoundError:
        raise MissingError(
            f"{directory} holds no {CARD}; give a run directory or a model that heedful wrote"
        ) from None
    except ValueError as error:
        raise DataError(f"{directory / CARD} is no JSON ({error}); save the model again") from error
    try:
        parents = tuple(Parent(**one) for one in fields.pop("parents", ()))
        return AdapterCard(**fields, parents=parents)
    except (TypeError, AttributeError) as error:
        raise DataError(
            f"{directory / CARD} is a card that this version does not know ({error}); save the "
            "model again, or update heedful"
        ) from error


def read_learned(directory: Path) -> frozenset[str] | None:
    """Ids of the prompts that an adapter or its parents were fitted to; None: not known."""
    try:
        return frozenset(json.loads((directory / LEARNED).read_text())["prompts"])
    except FileNotFoundError:
        return None


def read_settings(directory: Path) -> AdapterSettings:
    """How a saved adapter was made."""
    config = json.loads((directory / "adapter_config.json").read_text())
    layers = config["layers_to_transform"]
    return AdapterSettings(config["r"], config["lora_alpha"], min(layers), max(layers) + 1)


def load_role(trunk: Trunk, directory: Path, role: str) -> AdapterCard:
    """Load an adapter as ``role``. Refuses another base, a reward without its head, odd shapes."""
    card = read_card(directory)
    if card.base_hash != trunk.base.weights_hash:
        raise DataError(
            f"{directory} is an adapter of base {card.base} ({card.base_hash[:8]}), this run's "
            f"base is {trunk.base.name} ({trunk.base.weights_hash[:8]}); use --model {card.base}"
        )
    if card.has_head and not (directory / HEAD).exists():
        raise MissingError(f"{directory / HEAD} is missing; a reward model needs its head")
    settings = read_settings(directory)
    trunk.add_adapter(
        role,
        rank=settings.rank,
        alpha=settings.alpha,
        seed=0,
        first_layer=settings.first_layer,
        depth=settings.depth,
    )
    copy_weights(trunk, role, load_file(directory / WEIGHTS))
    if card.has_head:
        head = trunk.add_head(role, std=0.0, seed=0, pooling=card.pooling)
        tensors = load_file(directory / HEAD)
        links = {name: tensors.pop(name) for name in list(tensors) if name.startswith(LINK)}
        head.load_state_dict(tensors)
        trunk.add_links(role, {name.removeprefix(LINK): value for name, value in links.items()})
    return card


@torch.no_grad()
def copy_weights(trunk: Trunk, role: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy peft-named tensors into the role; every tensor must find its place."""
    unused = set(tensors)
    for path, layer in trunk.layers.items():
        if role in layer.scale:
            for which, name in peft_names(path):
                if name not in tensors:
                    raise DataError(f"the adapter file lacks {name}; it is not whole")
                own: torch.Tensor = getattr(layer, which)[role]
                # copy_ would repeat a row until it fits.
                if tensors[name].shape != own.shape:
                    raise DataError(
                        f"{name} of the adapter file has shape {list(tensors[name].shape)}, its "
                        f"settings and this base ask for {list(own.shape)}; save the model again"
                    )
                own.copy_(tensors[name])
                unused.discard(name)
    if unused:
        raise DataError(f"the adapter file has {min(unused)}, which this base has no place for")
