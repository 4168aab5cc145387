"""A language model out of a Python package that carries it as a GGUF file."""

import contextlib
import importlib.util
import io
import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging


def gguf_file(package: str) -> Path:
    """The one GGUF file of an installed package; ValueError if there is none."""
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = [path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))]
    if len(files) != 1:
        state = f"carries {len(files)} GGUF files" if found else "is not installed"
        raise ValueError(
            f"the package {package!r} {state}; it must carry one. Install it (that of the "
            "study smollm2 with: make .venv/installed-local), or name another in local.package"
        )
    return files[0]


def write_model(package: str, folder: Path) -> list[Path]:
    """Turn a package's GGUF file into a directory that transformers loads, in float32.

    Its 4-bit weights are rounded ones: this is not quite the model that was trained. An earlier
    model in `folder` is replaced. Returns the files.
    """
    path = gguf_file(package)
    # Their bars and warnings of quantisation would garble the log.
    transformers_logging.disable_progress_bar()
    named = {"gguf_file": path.name}
    with contextlib.redirect_stderr(io.StringIO()):
        quantised = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **named)
    config = AutoConfig.from_pretrained(path.parent, **named)
    # transformers refuses to save what it read from a GGUF file, but not its weights.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **named)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        built = Path(scratch) / folder.name
        model.save_pretrained(built)
        tokenizer.save_pretrained(built)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(built, folder)
    return sorted(folder.iterdir())
