"""The forward pass of a video network written out: what the hooks of `video.insertion` do, without hooks."""

import torch
from einops import rearrange

from video.frames.windows import even_moments
from video.network import VideoUNet
from video.temporal import apply_over_frames


def forward(network: VideoUNet, x_t, t, prompt, added=None):
    """The prediction for x_t "b c t h w", by a UNet of plain and cross-attention blocks whose strides divide it."""
    unet, temporal, frames = network.unet, network.temporal, x_t.shape[2]
    when = temporal.when(even_moments(frames), x_t.device)
    blocks = iter(temporal.blocks)
    timestep, tokens = t.repeat_interleave(frames), prompt.repeat_interleave(frames, dim=0)
    sample = rearrange(x_t, "b c t h w -> (b t) c h w")
    time = unet.time_embedding(unet.get_time_embed(sample, timestep))
    kind = unet.config["addition_embed_type"]
    if kind == "text":
        time = time + unet.add_embedding(tokens)
    if kind == "text_time":
        sizes = unet.add_time_proj(added["time_ids"].flatten()).reshape(len(x_t), -1)
        told = torch.cat([added["text_embeds"], sizes], dim=-1)
        time = time + unet.add_embedding(told.repeat_interleave(frames, dim=0))
    e = temporal.embedding(time[::frames], prompt, when)

    def unit(z, resnet, transformer):
        layers = next(blocks)
        z = apply_over_frames(layers.conv, resnet(z, time), e, when)
        if transformer is not None:
            z = transformer(z, encoder_hidden_states=tokens, return_dict=False)[0]
        z = apply_over_frames(layers.attention, z, e, when)
        return z if layers.space_time is None else apply_over_frames(layers.space_time, z, e, when)

    def pairs(block):
        transformers = list(getattr(block, "attentions", ()))
        return zip(block.resnets, transformers + [None] * (len(block.resnets) - len(transformers)), strict=True)

    sample = unet.conv_in(2 * sample - 1.0 if unet.config["center_input_sample"] else sample)
    skips = [sample]
    for block in unet.down_blocks:
        for resnet, transformer in pairs(block):
            sample = unit(sample, resnet, transformer)
            skips.append(sample)
        for downsampler in block.downsamplers or ():
            sample = downsampler(sample)
            skips.append(sample)
    for resnet, transformer in pairs(unet.mid_block):
        sample = unit(sample, resnet, transformer)
    for block in unet.up_blocks:
        for resnet, transformer in pairs(block):
            sample = unit(torch.cat([sample, skips.pop()], dim=1), resnet, transformer)
        for upsampler in block.upsamplers or ():
            sample = upsampler(sample)
    sample = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
    return rearrange(sample, "(b t) c h w -> b c t h w", t=frames)
