"""What the stages leave: files that stock diffusers reads, the same after a kill; and that they learn."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from shared.errors import InputError
from shared.images.generate import sample_images
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.rng import generator, normal
from shared.training.personalise import low_rank, words
from shared.training.personalise.examples import read_examples
from shared.training.personalise.prior import prior_examples
from shared.training.personalise.recipe import DreamboothTrainRecipe, LoraTrainRecipe, TextualInversionRecipe
from shared.training.personalise.stage import CHECKPOINTS, learner, loss_on, train, train_concept
from video.recipe import VideoLoraTrainRecipe
from video.training import lora as video_lora

SMALL = {"concept": "zork", "steps": 5, "batch_size": 2, "precision": "fp32", "checkpoint_minutes": 1e-9,
         "warmup_steps": 1, "ema_decay": 0.5, "learning_rate": 1e-2}  # fmt: skip
RECIPES = {
    "lora": (LoraTrainRecipe, {"text_rank": 2, "layers": "all", "token_learning_rate": 0.1}),
    "dreambooth": (DreamboothTrainRecipe, {"class_prompt": "a cone", "prior_pictures": 3, "prior_steps": 2}),
    "textual inversion": (TextualInversionRecipe, {"vectors": 2, "learning_rate": 0.1}),
    "video lora": (VideoLoraTrainRecipe, {"text_rank": 2, "layers": "all", "token_learning_rate": 0.1, "frames": 4}),
}


def recipe_of(name, model, **changes):
    kind, own = RECIPES[name]
    return kind.parse({**SMALL, **own, "model": model, **changes})


def files(out):
    return {file.name: file.read_bytes() for file in out.glob("*.safetensors")}


@pytest.fixture
def of_kind(pictures, clips):
    """name of a recipe -> the stage's training, and data for it."""
    return lambda name: (video_lora.train, clips) if name == "video lora" else (train, pictures)


@pytest.mark.parametrize("name", RECIPES)
def test_resuming_is_exact(name, model, of_kind, tmp_path):
    recipe, (train, data) = recipe_of(name, model), of_kind(name)
    whole = list(train(recipe, data, tmp_path / "whole"))
    first = train(recipe, data, tmp_path / "parts")
    for _ in range(2):
        next(first)
    first.close()
    rest = list(train(recipe, data, tmp_path / "parts", resume=True))
    assert [state.loss for state in rest] == [state.loss for state in whole[2:]]
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert low_rank.FILE in files(tmp_path / "whole") or name == "textual inversion"
    assert words.FILE in files(tmp_path / "whole")


def train_in_child(train, recipe, data, out):
    checkpoint = {**CHECKPOINTS, VideoLoraTrainRecipe: video_lora.CHECKPOINT}[type(recipe)]
    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            list(train(recipe, data, out, resume=(out / checkpoint).exists()))
            code = 0
        os._exit(code)
    return child


@pytest.mark.parametrize("name", ["lora", "video lora"])
def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bytes(name, model, of_kind, tmp_path):
    recipe, (train, data) = recipe_of(name, model, steps=8, starts_as="cube"), of_kind(name)
    started = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(train_in_child(train, recipe, data, tmp_path / "whole"), 0)[1]) == 0
    took = time.monotonic() - started
    draw, kills, out = random.Random(0), 0, tmp_path / "parts"
    for _ in range(3):
        child = train_in_child(train, recipe, data, out)
        time.sleep(draw.uniform(0.1, 0.6) * took)
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert kills
    assert os.waitstatus_to_exitcode(os.waitpid(train_in_child(train, recipe, data, out), 0)[1]) == 0
    assert files(out) == files(tmp_path / "whole")


def test_stock_diffusers_makes_the_same_picture_of_the_files(model, pictures, tmp_path):
    list(train(recipe_of("lora", model), pictures, tmp_path))
    lora, word = (str(tmp_path / name) for name in (low_rank.FILE, words.FILE))
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(lora)
    pipeline.load_textual_inversion(word)
    recipe = ImageRecipe(prompt="a zork", steps=3, guidance_scale=3.0, guidance_rescale=0.0)
    theirs = pipeline(
        "a zork", num_inference_steps=3, guidance_scale=3.0, latents=normal((4, 16, 16), 0)[None], output_type="latent"
    ).images
    loaded = load_image_model(model, lora=[lora], embeddings=[word])
    assert loaded.notes == ()
    *_, ours = sample_images(loaded, ["a zork"], [0], recipe)
    *_, plain = sample_images(load_image_model(model, embeddings=[word]), ["a zork"], [0], recipe)
    assert (ours.latents - theirs).abs().max() < 1e-5
    assert (ours.latents - plain.latents).abs().max() > 1e-3
    layers = sum(len(network.peft_config) and count(network) for network in (pipeline.unet, pipeline.text_encoder))
    assert layers == sum("lora_down" in name for name in load_file(lora))  # none was left out


def count(network):
    return sum(name.endswith("lora_A.default_0") for name, _ in network.named_modules())


def test_what_was_trained_is_what_is_loaded(model, pictures, tmp_path):
    *_, last = train(recipe_of("lora", model), pictures, tmp_path)
    recipe = ImageRecipe(prompt="a zork", steps=2)
    *_, live = sample_images(last.model(), ["a zork"], [0], recipe)
    loaded = load_image_model(model, lora=[str(tmp_path / low_rank.FILE)], embeddings=[str(tmp_path / words.FILE)])
    *_, after = sample_images(loaded, ["a zork"], [0], recipe)
    assert (live.latents - after.latents).abs().max() < 1e-4


def test_names_are_those_that_other_tools_know(model, pictures, tmp_path):
    list(train(recipe_of("lora", model, layers="attention", steps=1), pictures, tmp_path))
    with safe_open(tmp_path / low_rank.FILE, framework="pt") as opened:
        names, about = set(opened.keys()), opened.metadata()
    place = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    for stem in (f"lora_unet_{place}", text):
        assert {f"{stem}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha")} <= names
    assert (about["ss_network_dim"], about["ss_network_alpha"], about["ss_num_train_images"]) == ("8", "8", "5")
    assert model not in str(about)
    assert set(load_file(tmp_path / words.FILE)) == {"zork"}


@pytest.mark.parametrize("name", ["lora", "textual inversion"])
def test_it_learns_the_pictures_and_the_rest_stays(name, model, pictures, tmp_path):
    loaded = load_image_model(model)
    before = {key: tensor.clone() for key, tensor in loaded.unet.state_dict().items()}
    examples = read_examples(pictures, loaded.codec, 64, "a zork")
    recipe = recipe_of(name, model, steps=40, caption_dropout=0.0)
    learned = learner(loaded, recipe, examples)
    at_first = float(loss_on(learned.model, examples, recipe, generator(9)))
    list(train_concept(learned, recipe, examples))
    assert float(loss_on(learned.model, examples, recipe, generator(9))) < 0.97 * at_first
    after = {key.replace(".base_layer", ""): tensor for key, tensor in loaded.unet.state_dict().items()}
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    text = learned.model.text.text_encoder
    known = load_image_model(model).text.text_encoder.get_input_embeddings().weight
    assert torch.equal(text.get_input_embeddings().known.weight[: len(known)], known)


def test_with_a_prior_the_models_own_pictures_are_kept(model, pictures, tmp_path):
    losses = {}
    for weight in (0.0, 20.0):
        loaded = load_image_model(model)
        recipe = recipe_of("dreambooth", model, steps=25, prior_weight=weight, prior_pictures=4)
        prior = prior_examples(loaded, recipe, tmp_path)
        examples = read_examples(pictures, loaded.codec, 64, recipe.caption)
        learned = learner(loaded, recipe, examples)
        states = list(train_concept(learned, recipe, examples, prior))
        losses[weight] = float(loss_on(learned.model, prior, recipe, generator(9)))
        assert all(state.metrics["prior"] > 0 for state in states)
    assert losses[20.0] < 0.97 * losses[0.0]


def test_a_word_that_is_known_needs_no_vectors(model, pictures, tmp_path):
    list(train(recipe_of("lora", model, concept="red cube", steps=1), pictures, tmp_path))
    assert set(files(tmp_path)) == {low_rank.FILE}


@pytest.mark.parametrize(
    ("name", "changes", "part"),
    [
        ("lora", {"concept": "zork blurb"}, "one word that the model does not know, got zork blurb"),
        ("lora", {"concept": None}, "5 files without a caption"),
        ("textual inversion", {"concept": "cube"}, "a word that the model does not have"),
        ("lora", {"starts_as": "blurb"}, "starts_as"),
    ],
)
def test_wrong_input_is_refused(name, changes, part, model, pictures, tmp_path):
    with pytest.raises(InputError) as error:
        next(train(recipe_of(name, model, **changes), pictures, tmp_path))
    assert part in str(error.value)


def test_a_new_word_must_be_in_the_captions(model, pictures, tmp_path):
    for file in pictures.glob("*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / f"{file.stem}.txt").write_text("a red cube")
    with pytest.raises(InputError, match="concept: expected a word of the captions, got zork, which none of them has"):
        next(train(recipe_of("lora", model), tmp_path, tmp_path / "out"))


@pytest.mark.parametrize(("name", "key"), [("dreambooth", "class_prompt"), ("textual inversion", "concept")])
def test_what_is_needed_is_asked_for(name, key):
    kind, own = RECIPES[name]
    values = {**SMALL, **own}
    del values[key]
    with pytest.raises(InputError, match=f"{key}: expected a value, got nothing"):
        kind.parse(values)
