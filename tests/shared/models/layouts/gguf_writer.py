"""GGUF files as the package `gguf` writes them: matrices whose rows are whole blocks quantised, all else in float32."""

import gguf
import numpy as np
import torch


def quantises(name, tensor, block=32):
    return tensor.ndim == 2 and name.endswith("weight") and tensor.shape[-1] % block == 0


def write_gguf(path, tensors, kind, other=gguf.GGMLQuantizationType.F32):
    """kind: of the matrices. other: of biases and norms."""
    writer = gguf.GGUFWriter(str(path), "test")
    for name, tensor in tensors.items():
        values = tensor.detach().float().numpy()
        of = kind if quantises(name, tensor) else other if tensor.ndim == 1 else gguf.GGMLQuantizationType.F32
        if of == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, np.ascontiguousarray(values))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, of), raw_dtype=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def rounded(tensors, kind):
    """The numbers that such a file stands for, by the package's own arithmetic; their products with the scales of
    blocks in half precision, as diffusers has them."""
    return {
        name: torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(tensor.numpy(), kind), kind)).half().float()
        if quantises(name, tensor)
        else tensor
        for name, tensor in tensors.items()
    }
