"""What a run needs in memory, by role, from the files of the base: before anything is loaded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from heedful.errors import ResourceError
from heedful.maths.logprobs import CHUNK_TOKENS, ROWS_AT_ONCE
from heedful.model.adapter_files import WEIGHTS, member_directories
from heedful.model.attention import DENSE_TOKENS
from heedful.model.lora import FULL, Rank, layer_number

GB = 2**30
RUNTIME_BYTES = int(0.45 * GB)  # Python, torch and transformers with nothing loaded
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a base. ``linears`` are (layer, inputs, outputs) of the decoder's linear layers."""

    num_parameters: int
    num_layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    key_width: int
    linears: tuple[tuple[int, int, int], ...]
    itemsize: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One role of a budget; ``activations`` are what it holds while it works.

    Lines of one ``phase`` work at the same time.
    """

    role: str
    num_parameters: int
    num_bytes: int
    activations: int = 0
    phase: str = ""


def read_shape(path: Path, dtype: torch.dtype) -> Shape:
    """Sizes from config.json and the headers of the safetensors files; no weight is read."""
    from transformers import AutoConfig

    # transformers knows each architecture's own names, and where a text model is nested
    config = AutoConfig.from_pretrained(path).get_text_config()
    shapes = stored_shapes(path)
    hidden, heads = config.hidden_size, config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    linears = tuple(
        (number, shape[1], shape[0])
        for name, shape in shapes.items()
        if len(shape) == 2 and (number := layer_number(name)) is not None
    )
    return Shape(
        num_parameters=sum(int(torch.Size(shape).numel()) for shape in shapes.values()),
        num_layers=config.num_hidden_layers,
        hidden=hidden,
        intermediate=inner or 4 * hidden,
        vocabulary=config.vocab_size,
        key_width=key_heads * (getattr(config, "head_dim", None) or hidden // heads),
        linears=linears,
        itemsize=torch.empty(0, dtype=dtype).element_size(),
    )


def stored_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of the tensors in the safetensors files of a directory, from their headers."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                shapes[name] = list(tensors.get_slice(name).get_shape())
    return shapes


def base_line(shape: Shape) -> Line:
    """The frozen base, once for all roles."""
    return Line(
        role="base",
        num_parameters=shape.num_parameters,
        num_bytes=shape.num_parameters * shape.itemsize,
    )


def trained_line(
    shape: Shape,
    role: str,
    *,
    rank: Rank,
    first_layer: int,
    depth: int | None,
    tokens: int,
    copied: float = 0.0,
    recomputes: bool = False,
) -> Line:
    """An adapter in training: values, gradients and two moments in float32, and activations.

    One of a full rank also has the weights that it makes, which gradients go through.

    A decoder layer keeps about 12 states and 4 inner states of every token for its backward pass;
    layers below ``first_layer`` keep none. With ``recomputes`` a layer keeps one state, and one
    layer at a time has the rest. For every token there are ``copied`` keys and values of prompts
    that large trees hold once per response.
    """
    end = depth or shape.num_layers
    own = [(i, o) for layer, i, o in shape.linears if first_layer <= layer < end]
    count = sum(i * o if rank == FULL else rank * (i + o) for i, o in own)
    layers, whole = end - first_layer, layer_width(shape) + 2 * int(copied * shape.hidden)
    kept = layers * shape.hidden + whole if recomputes else layers * whole
    return Line(
        role=role,
        num_parameters=count,
        num_bytes=4 * 4 * count,
        activations=(tokens * kept + (count if rank == FULL else 0)) * shape.itemsize,
        phase="update",
    )


def layer_width(shape: Shape) -> int:
    """Numbers per token that a decoder layer holds at its work."""
    return 12 * shape.hidden + 4 * shape.intermediate


def copied_prompts(prompt: int, responses: Sequence[int]) -> float:
    """Copies of prompt tokens per token of a tree: a large one has them for every response."""
    total = prompt + sum(responses)
    is_split = len(responses) > 1 and total > DENSE_TOKENS
    return len(responses) * prompt / total if is_split else 0.0


def frozen_line(role: str, directory: Path) -> Line:
    """An adapter that is only read, or all members of an ensemble."""
    places = member_directories(directory) or [directory]
    size = sum((place / WEIGHTS).stat().st_size for place in places)
    return Line(role=role, num_parameters=size // 4, num_bytes=size)


def logits_line(shape: Shape, tokens: int) -> Line:
    """A chunk of logits, which no batch exceeds, beside the activations; a few rows in float32."""
    return Line(
        role="log-probs",
        num_parameters=0,
        num_bytes=0,
        activations=shape.vocabulary
        * (min(tokens, CHUNK_TOKENS) * shape.itemsize + min(tokens, ROWS_AT_ONCE) * 8),
        phase="update",
    )


def blocks_line(shape: Shape, *, first_layer: int, depth: int | None) -> Line:
    """Copies of the weights that products are faster with, and of those that gradients go through.

    As ``Trunk.lay_out`` makes them for a role that adapts the layers from ``first_layer`` up.
    """
    end = depth or shape.num_layers
    sizes = [(layer, i * o) for layer, i, o in shape.linears if layer < end]
    count = sum(size * (2 if layer >= first_layer else 1) for layer, size in sizes)
    count += shape.vocabulary * shape.hidden if end == shape.num_layers else 0
    return Line(role="laid out", num_parameters=0, num_bytes=count * shape.itemsize)


def generation_line(
    shape: Shape, *, slots: int, tokens: int, prefilled: int, copies_all: bool, first_layer: int
) -> Line:
    """The cache, the copy of the weights that is sampled from, and logits or ``prefilled`` tokens.

    ``copies_all``: weights are laid out for decoding; otherwise only those that an adapter from
    ``first_layer`` up is folded into are copied.
    """
    cache = 2 * slots * tokens * shape.num_layers * shape.key_width * shape.itemsize
    copied = sum(i * o for layer, i, o in shape.linears if copies_all or layer >= first_layer)
    copied += shape.vocabulary * shape.hidden if copies_all else 0
    logits = slots * shape.vocabulary * (12 + shape.itemsize)
    prefill = prefilled * layer_width(shape) * shape.itemsize
    return Line(
        role="sampling",
        num_parameters=0,
        num_bytes=cache,
        activations=copied * shape.itemsize + max(logits, prefill),
        phase="sampling",
    )


def total_bytes(lines: Sequence[Line]) -> int:
    """Everything that stays, and the largest of what comes and goes: phases follow each other."""
    phases = Counter[str]()
    for line in lines:
        phases[line.phase] += line.activations
    stays = sum(line.num_bytes for line in lines)
    return RUNTIME_BYTES + stays + max(phases.values(), default=0)


def available_bytes(device: torch.device) -> int | None:
    """Free memory of the device; None where the system does not say.

    Of a CPU it is what the machine has and what the container may still take, whichever is less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    known = [one for one in (machine_bytes(), cgroup_bytes()) if one is not None]
    return min(known, default=None)


def machine_bytes() -> int | None:
    """What Linux calls available."""
    if not MEMINFO.exists():
        return None
    rows = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


def cgroup_bytes() -> int | None:
    """What the control group of this process may still take, in version 2 or 1; None: no limit."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, taken = ((CGROUP / name).read_text().strip() for name in (limit, used))
            stat = (CGROUP / limit).with_name("memory.stat").read_text()
        except OSError:
            continue
        if most == "max":
            return None
        # pages of files that nobody reads any more are given back as soon as memory is wanted
        rows = dict(line.split() for line in stat.splitlines())
        return max(int(most) - int(taken) + int(rows.get(cache, 0)), 0)
    return None


def describe(lines: Sequence[Line], free: int | None) -> list[str]:
    """The budget as a table."""
    rows = [("memory, estimated", "parameters", "GB", "while at work, GB")]
    rows += [
        (
            line.role,
            f"{line.num_parameters:,}" if line.num_parameters else "",
            gigabytes(line.num_bytes),
            gigabytes(line.activations),
        )
        for line in lines
    ]
    have = "" if free is None else f" of {free / GB:.1f} free"
    rows.append(("in all", "", f"{total_bytes(lines) / GB:.2f}{have}", ""))
    widths = [max(len(row[i]) for row in rows[:-1]) for i in range(4)]
    return [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def gigabytes(num_bytes: int) -> str:
    """Two digits; nothing for nothing."""
    if not num_bytes:
        return ""
    return f"{num_bytes / GB:.2f}" if num_bytes >= 0.01 * GB else "< 0.01"


def refuse_what_cannot_fit(lines: Sequence[Line], free: int | None) -> None:
    """Raise ``ResourceError`` with the numbers when the estimate exceeds what is free."""
    needed = total_bytes(lines)
    if free is not None and needed > free:
        largest = max(lines, key=lambda line: line.num_bytes + line.activations)
        raise ResourceError(
            f"this run needs about {needed / GB:.1f} GB and {free / GB:.1f} GB are free; the "
            f"largest part is {largest.role}: lower batch.tokens_per_micro_step or "
            "rollouts.num_slots, or take a smaller model"
        )
