"""Weights of networks as ``.safetensors``: a length, a JSON header, and the numbers.

The format is described at https://github.com/huggingface/safetensors; no code is ever run from it.
"""

import json
from pathlib import Path

import torch

from study.parameters import SettingsError
from study.results import replacing

KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def load(path):
    """The tensors of a file, ``{name: tensor}``.

    Raises
    ------
    SettingsError
        If it is missing or no such file.
    """
    try:
        content = Path(path).read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        return {name: _tensor(content[start:], entry) for name, entry in header.items()}
    except Exception as error:  # a damaged file raises half a dozen kinds
        reason = f"{type(error).__name__}: {error}"
        raise SettingsError(f"weights_file must be a .safetensors file ({reason}).") from error


def _tensor(content, entry):
    first, last = entry["data_offsets"]
    tensor = torch.zeros(entry["shape"], dtype=KINDS[entry["dtype"]])
    if last - first != tensor.nbytes or len(content) < last:
        raise ValueError("it is cut")
    if tensor.nbytes:
        flat = torch.frombuffer(bytearray(content[first:last]), dtype=tensor.dtype)
        tensor = flat.reshape(tensor.shape)
    return tensor


def save(tensors, path):
    """Write tensors, as of ``model.state_dict()``, whole or not at all."""
    names, header, parts = {kind: name for name, kind in KINDS.items()}, {}, []
    for name, tensor in tensors.items():
        first = sum(map(len, parts))
        parts.append(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
        entry = {"dtype": names[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = entry | {"data_offsets": [first, first + len(parts[-1])]}
    text = json.dumps(header).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
