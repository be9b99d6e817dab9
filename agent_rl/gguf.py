"""GGUF files to plain transformers folders."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError


def convert(source: str, out: str) -> dict[str, Any]:
    """Dequantize a GGUF model to float32 safetensors with its tokenizer and chat template.

    transformers marks a model read from GGUF as quantized and refuses to save it, so its weights
    are moved into a fresh model of the same configuration.

    Args:
        source: A ``.gguf`` file, or ``package:NAME`` for the one inside an installed package.
        out: The folder to write; made whole or not at all.

    Returns:
        What was written: parameters, vocabulary, folder.

    Raises:
        UserError: When there is no such file, ``out`` exists, or gguf is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UserError("reading GGUF needs the gguf package: pip install 'agent-rl[gguf]'")
    target = Path(out)
    if target.exists():
        raise UserError(f"{out} exists already; remove it or write elsewhere")
    file = _file(source)
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    config = type(read.config).from_dict(settings)
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {
        "folder": str(target),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
    }


def _file(source: str) -> Path:
    if not source.startswith("package:"):
        file = Path(source)
        if not file.is_file():
            raise UserError(f"no file {source}")
        return file
    name = source.removeprefix("package:")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {name} is not installed")
    found = sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.gguf"))
    if not found:
        raise UserError(f"the package {name} holds no .gguf file")
    return found[0]
