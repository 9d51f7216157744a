"""A tiny model as open_clip has it, from torch's own layers under its names, and the folder of one."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from shared.models.layouts.clip_vocabulary import tokenizer_of
from shared.models.open_clip import CONFIG, WEIGHTS
from tests.tiny import MAX_LENGTH, WORDS


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, inner, activation):
        super().__init__()
        self.ln_1, self.ln_2, self.activation = nn.LayerNorm(width), nn.LayerNorm(width), activation
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, inner), "c_proj": nn.Linear(inner, width)})

    def forward(self, x, mask=None):
        read = self.ln_1(x)
        x = x + self.attn(read, read, read, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln_2(x))))


class Picture(nn.Module):
    """Pixels "b 3 24 24" to features, by 9 patches."""

    def __init__(self, activation):
        super().__init__()
        self.class_embedding, self.positional_embedding, self.proj = map(drawn, ((32,), (10, 32), (32, 12)))
        self.conv1, self.ln_pre, self.ln_post = nn.Conv2d(3, 32, 8, 8, bias=False), nn.LayerNorm(32), nn.LayerNorm(32)
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.Sequential(*(Block(32, 4, 51, activation) for _ in range(2)))}
        )

    def forward(self, pixels):
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), self.conv1(pixels).flatten(2).mT], 1)
        x = self.transformer["resblocks"](self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class OpenClip(nn.Module):
    def __init__(self, words, activation):
        super().__init__()
        self.visual, self.token_embedding, self.ln_final = (
            Picture(activation),
            nn.Embedding(words, 16),
            nn.LayerNorm(16),
        )
        self.positional_embedding, self.text_projection, self.logit_scale = map(drawn, ((MAX_LENGTH, 16), (16, 12), ()))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList([Block(16, 2, 64, activation)])})

    def text(self, ids):
        """Features of tokens "b n"."""
        mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)
        x = self.transformer["resblocks"][0](self.token_embedding(ids) + self.positional_embedding, mask)
        return self.ln_final(x)[range(len(ids)), ids.argmax(1)] @ self.text_projection


def drawn(shape):
    return nn.Parameter(torch.empty(shape))


def spelling_tokenizer() -> CLIPTokenizer:
    """Tokens numbered as CLIP's are, the end of a text last: letters, and what makes words of them from the left."""
    merges = []
    for word in WORDS:
        merges += [f"{word[:n]} {word[n]}{'</w>' if n + 1 == len(word) else ''}" for n in range(1, len(word))]
    return tokenizer_of(list(dict.fromkeys(merges)))


def build_open_clip(folder: Path, *, quick_gelu: bool = False, **preprocess) -> OpenClip:
    """Into a folder, with its tokenizer; every weight is drawn. preprocess: of its configuration."""
    tokenizer = spelling_tokenizer()
    torch.manual_seed(5)
    model = OpenClip(len(tokenizer), QuickGELU() if quick_gelu else nn.GELU()).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / WEIGHTS[0])
    vision = {"image_size": 24, "patch_size": 8, "width": 32, "head_width": 8, "layers": 2, "mlp_ratio": 1.6}
    text = {"context_length": MAX_LENGTH, "vocab_size": len(tokenizer), "width": 16, "heads": 2, "layers": 1}
    told = {"embed_dim": 12, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": told, "preprocess_cfg": preprocess}))
    tokenizer.save_pretrained(folder)
    return model
