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
from heedful.model.lora import FULL, file_name
from heedful.model.parts import Mix, Parts
from heedful.model.trunk import AdapterSettings, Trunk
from heedful.types import Part

WEIGHTS = "adapter_model.safetensors"
HEAD = "head.safetensors"
FEATURES = "features.safetensors"  # of a reward that has no adapter
CARD = "heedful.json"
LEARNED = "learned.json"
LINK = "link/"  # before the names of a head's thresholds
MEMBERS = "members"  # the directory that holds the adapters of an ensemble by number
SAMPLE = "parts/sample"  # what the parts of a head say of some training answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """An adapter that another builds on: the policy that it started from, the reward it served."""

    role: str
    path: str
    weights_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCard:
    """What the directory of an adapter, or of another ``backbone`` of a reward, says of itself.

    ``mean`` and ``std`` normalise a reward to mean 0 and deviation 1 on its start policy, once
    ``length_penalty`` times the tokens of the response is taken off. Without a policy among its
    ``parents`` the adapter started from the base. ``parts`` are the outputs of a head that has
    several, and ``mix`` is how they make one reward. More than one of ``members`` are an ensemble,
    whose ``aggregate`` with its ``penalty`` is normalised.
    """

    role: str
    base: str
    base_hash: str
    has_head: bool
    mean: float = 0.0
    std: float = 1.0
    pooling: str = "last"
    length_penalty: float = 0.0
    backbone: str = "adapter"
    parents: tuple[Parent, ...] = ()
    parts: tuple[Part, ...] = ()
    mix: Mix | None = None
    members: int = 1
    aggregate: str = "mean"
    penalty: float = 0.0


def write_directory(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a directory under a temporary name beside ``target``, then rename it into place.

    What was there stays until then, also when the power fails. Who may read other new files may
    read these.
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
                _sync(path)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        _sync(partial)
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
    _sync(partial)
    os.replace(partial, path)


def _sync(path: Path) -> None:
    """Bring a file or directory to the disk: a name must never outlast its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        write_role(trunk, role, directory, mean=mean, std=std, parents=parents)
        write_learned(directory, learned)

    write_directory(target, write)
    return weights_hash(target)


def write_role(
    trunk: Trunk,
    role: str,
    directory: Path,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    parents: tuple[Parent, ...] = (),
) -> None:
    """Write a role's adapter, head, links and card into a directory that is being filled."""
    tensors = {}
    for path, layer in trunk.layers.items():
        for which, value in layer.parameters_of(role).items():
            tensors[file_name(path, which)] = value.detach().cpu().contiguous()
    save_file(tensors, directory / WEIGHTS)
    if role in trunk.heads:
        head = {k: v.detach().cpu() for k, v in trunk.heads[role].state_dict().items()}
        links = {f"{LINK}{k}": v.detach().cpu() for k, v in trunk.links.get(role, {}).items()}
        if role in trunk.parts:
            head[SAMPLE] = trunk.parts[role].sample.detach().cpu().contiguous()
        save_file(head | links, directory / HEAD)
    parts = trunk.parts.get(role)
    card = AdapterCard(
        role=role.partition("/")[0],
        base=trunk.base.name,
        base_hash=trunk.base.weights_hash,
        has_head=role in trunk.heads,
        mean=mean,
        std=std,
        pooling=trunk.pooling.get(role, "last"),
        length_penalty=trunk.length_penalty.get(role, 0.0),
        parents=parents,
        parts=parts.parts if parts else (),
        mix=parts.mix if parts else None,
    )
    settings = trunk.adapters[role]
    write_json(directory / "adapter_config.json", peft_config(trunk, settings))
    write_json(directory / CARD, asdict(card))


def write_learned(directory: Path, learned: frozenset[str] | None) -> None:
    """Write the ids of the prompts that were learned from, where they are known."""
    if learned is not None:
        write_json(directory / LEARNED, {"prompts": sorted(learned)})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def peft_config(trunk: Trunk, settings: AdapterSettings) -> dict[str, Any]:
    """The adapter_config.json that peft reads; it refuses a full rank by the type."""
    names = sorted({path.rpartition(".")[2] for path in trunk.layers})
    return {
        "peft_type": "HEEDFUL_FULL" if settings.rank == FULL else "LORA",
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
    """Content hash of adapter and head, or of what a reward has in their place.

    Of an ensemble it is that of all members and of the aggregate. A mix of parts and a penalty on
    length are part of the reward, so they are part of its hash.
    """
    digest = hashlib.sha256()
    places, card = member_directories(directory), read_card(directory)
    if places:
        digest.update(f"{len(places)} {card.aggregate} {card.penalty!r}".encode())
    if card.length_penalty:
        digest.update(f"length {card.length_penalty!r}".encode())
    if card.mix is not None:
        digest.update(json.dumps(asdict(card.mix), sort_keys=True).encode())
    for place in places or [directory]:
        for name in (WEIGHTS, HEAD, FEATURES):
            if (place / name).exists():
                digest.update((place / name).read_bytes())
    return digest.hexdigest()[:32]


def member_directories(directory: Path) -> list[Path]:
    """Where the members of a saved ensemble lie, in order; none of a single adapter."""
    found = [path for path in (directory / MEMBERS).glob("*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


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
        parts = tuple(Part(*one) for one in fields.pop("parts", ()))
        mix = fields.pop("mix", None)
        return AdapterCard(
            **fields, parents=parents, parts=parts, mix=None if mix is None else Mix(**mix)
        )
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
    if card.backbone != "adapter":
        raise DataError(
            f"{directory} is a reward on {card.backbone} and has no adapter; fit a reward with "
            "--backbone adapter where a model's states are needed"
        )
    if card.members > 1:
        raise DataError(
            f"{directory} is an ensemble of {card.members} reward models and one adapter is needed "
            f"here; give one of its members, such as {directory / MEMBERS / '0'}"
        )
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
        tensors = load_file(directory / HEAD)
        head = trunk.add_head(
            role,
            std=0.0,
            seed=0,
            pooling=card.pooling,
            num_outputs=max(len(card.parts), 1),
        )
        load_parts(trunk, role, card, directory, tensors)
        links = {name: tensors.pop(name) for name in list(tensors) if name.startswith(LINK)}
        head.load_state_dict(tensors)
        trunk.add_links(role, {name.removeprefix(LINK): value for name, value in links.items()})
        trunk.length_penalty[role] = card.length_penalty
    return card


def load_parts(
    trunk: Trunk, role: str, card: AdapterCard, directory: Path, tensors: dict[str, torch.Tensor]
) -> None:
    """Give the role its parts, and take their sample out of ``tensors``.

    Raises ``DataError`` when the head and the card do not have the same parts.
    """
    sample = tensors.pop(SAMPLE, None)
    num_outputs = len(tensors["weight"])
    seen = num_outputs if sample is None else sample.shape[-1]
    if num_outputs != max(len(card.parts), 1) or bool(card.parts) != (sample is not None):
        raise DataError(
            f"{directory / HEAD} has {num_outputs} outputs and a sample of {seen}, the card names "
            f"{len(card.parts)} parts; save the model again"
        )
    if sample is not None:
        assert card.mix is not None
        trunk.parts[role] = Parts(
            parts=card.parts, mix=card.mix, sample=sample.to(trunk.device, torch.float32)
        )


@torch.no_grad()
def copy_weights(trunk: Trunk, role: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy peft-named tensors into the role; every tensor must find its place."""
    unused = set(tensors)
    for path, layer in trunk.layers.items():
        for which, own in layer.parameters_of(role).items():
            name = file_name(path, which)
            if name not in tensors:
                raise DataError(f"the adapter file lacks {name}; it is not whole")
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
