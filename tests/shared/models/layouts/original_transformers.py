"""Transformers, and autoencoders of theirs, by the names that their publishers gave the tensors.

The way from diffusers' names to the original ones, which is diffusers' own conversion walked backwards.
"""

import re

import torch

PREFIX = "model.diffusion_model."


def stable_diffusion_3(state):
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    found = {}
    ends = {
        "pos_embed.pos_embed": "pos_embed",
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "proj_out": "final_layer.linear",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
    }
    blocks = {
        "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
        "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
        "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k",
        "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
        "attn2.to_out.0": "x_block.attn2.proj",
        "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
        "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
        "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2",
    }  # fmt: skip
    together = {
        "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    }
    swapped = ("norm_out.linear", f"transformer_blocks.{layers - 1}.norm1_context.linear")  # scale and shift
    for name, tensor in state.items():
        if name.startswith(swapped):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        layer = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        if layer is None:
            found[_begun(name, ends)] = tensor
        elif layer[2] in blocks:
            found[f"joint_blocks.{layer[1]}.{blocks[layer[2]]}.{layer[3]}"] = tensor
    for number in range(layers):
        found |= _joined(state, f"transformer_blocks.{number}.", f"joint_blocks.{number}.", together)
    return {f"{PREFIX}{name}": tensor for name, tensor in found.items()}


def flux(state):
    ends = {
        "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
        "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
        "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
        "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
        "context_embedder": "txt_in", "x_embedder": "img_in",
        "proj_out": "final_layer.linear", "norm_out.linear": "final_layer.adaLN_modulation.1",
    }  # fmt: skip
    double = {"ff": "img_mlp", "ff_context": "txt_mlp"}
    double = {f"{old}.net.{n}": f"{new}.{m}" for old, new in double.items() for n, m in (("0.proj", 0), ("2", 2))}
    double |= {"norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin"}
    double |= {"attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj"}
    scales = {f"attn.norm_{q}": f"img_attn.norm.{word}_norm" for q, word in (("q", "query"), ("k", "key"))}
    scales |= {f"attn.norm_added_{q}": f"txt_attn.norm.{word}_norm" for q, word in (("q", "query"), ("k", "key"))}
    single = {"norm.linear": "modulation.lin", "proj_out": "linear2"}
    single_scales = {"attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}
    found = {}
    for name, tensor in state.items():
        layer = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        if layer is None:
            tensor = torch.cat(tensor.chunk(2)[::-1]) if name.startswith("norm_out.linear") else tensor
            found[_begun(name, ends)] = tensor
            continue
        blocks, names, norms = ("single", single, single_scales) if layer[1] else ("double", double, scales)
        if layer[3] in names:
            found[f"{blocks}_blocks.{layer[2]}.{names[layer[3]]}.{layer[4]}"] = tensor
        elif layer[3] in norms:
            found[f"{blocks}_blocks.{layer[2]}.{norms[layer[3]]}.scale"] = tensor
    for old, new, together in (
        ("transformer_blocks.0.", "double_blocks.0.", {
            "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
            "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        }),
        ("single_transformer_blocks.0.", "single_blocks.0.", {
            "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        }),
    ):  # fmt: skip
        found |= _joined(state, old, new, together)
    return found


def wan(state):
    ends = {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "scale_shift_table": "head.modulation",
        "proj_out": "head.head",
    }
    places = {".to_out.0.": ".o.", ".to_q.": ".q.", ".to_k.": ".k.", ".to_v.": ".v.", "scale_shift_table": "modulation"}
    places |= {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "attn1": "self_attn", "attn2": "cross_attn"}
    places |= {".norm2.": ".norm@.", ".norm3.": ".norm2.", ".norm@.": ".norm3."}
    found = {}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            for new, old in places.items():
                name = name.replace(new, old)
        found[_begun(name, ends)] = tensor
    return found


def wan_vae(state):
    inside = {"norm1.": "residual.0.", "conv1.": "residual.2.", "norm2.": "residual.3.", "conv2.": "residual.6."}
    ends = {"quant_conv": "conv1", "post_quant_conv": "conv2"}
    halves = {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2", "mid_block.attentions.0": "middle.1"}
    halves |= {f"mid_block.resnets.{n}": f"middle.{2 * n}" for n in range(2)}
    for level in range(4):
        halves |= {f"up_blocks.{level}.resnets.{n}": f"upsamples.{4 * level + n}" for n in range(3)}
        halves[f"up_blocks.{level}.upsamplers.0"] = f"upsamples.{4 * level + 3}"
    halves |= {f"down_blocks.{n}": f"downsamples.{n}" for n in range(11)}
    found = {}
    for name, tensor in state.items():
        half, _, rest = name.partition(".")
        if half in ("encoder", "decoder"):
            places = [(new, old) for new, old in halves.items() if rest.startswith(f"{new}.")]
            for new, old in places:
                rest = rest.replace(new, old, 1)
            if places and places[0][0].startswith(("mid_block.resnets", "up_blocks", "down_blocks")):
                for new, old in inside.items():
                    rest = rest.replace(f".{new}", f".{old}")
                rest = rest.replace("conv_shortcut", "shortcut")
            found[f"{half}.{rest}"] = tensor
        else:
            found[_begun(name, ends)] = tensor
    return found


def ltx(state):
    places = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
    found = {}
    for name, tensor in state.items():
        for new, old in places.items():
            name = name.replace(new, old)
        found[f"{PREFIX}{name}"] = tensor
    return found


def ltx_vae(state):
    """Of an autoencoder whose levels are all as wide as another, as in the first version."""
    up = {"mid_block": 0, "up_blocks.0": 1, "up_blocks.1.upsamplers.0": 2, "up_blocks.1": 3}
    up |= {"up_blocks.2.upsamplers.0": 5, "up_blocks.2": 6, "up_blocks.3.upsamplers.0": 8, "up_blocks.3": 9}
    down = {f"down_blocks.{n}": 3 * n for n in range(3)} | {"down_blocks.3": 8, "mid_block": 9}
    down |= {f"down_blocks.{n}.downsamplers.0": 3 * n + 1 for n in range(3)}
    found = {}
    for name, tensor in state.items():
        name = name.replace("resnets", "res_blocks").replace("conv_shortcut.conv", "conv_shortcut")
        for half, numbers, word in (("encoder", down, "down_blocks"), ("decoder", up, "up_blocks")):
            fitting = [place for place in numbers if name.startswith(f"{half}.{place}.")]
            if fitting:
                place = max(fitting, key=len)
                name = name.replace(f"{half}.{place}", f"{half}.{word}.{numbers[place]}", 1)
                break
        name = {"latents_mean": "per_channel_statistics.mean-of-means"}.get(name, name)
        found[f"vae.{ {'latents_std': 'per_channel_statistics.std-of-means'}.get(name, name) }"] = tensor
    return found


def _begun(name, ends):
    new = next((new for new in sorted(ends, key=len, reverse=True) if name == new or name.startswith(f"{new}.")), "")
    return ends[new] + name.removeprefix(new) if new else name


def _joined(state, old, new, together):
    """Layers whose rows the original keeps in one tensor."""
    found = {}
    for name, parts in together.items():
        for ending in ("weight", "bias"):
            rows = [state[key] for part in parts if (key := f"{old}{part}.{ending}") in state]
            if rows:
                found[f"{new}{name}.{ending}"] = torch.cat(rows)
    return found
