"""Flags from recipes: which there are, and what wins over what."""

import argparse
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from lab.flags import Parser, add_command, add_recipe_flags, parse_recipe
from shared.errors import InputError
from shared.recipe import Recipe
from video.recipe import ClipRecipe


class Inner(BaseModel):
    depth: int = 1


class Toy(Recipe):
    prompt: str = Field(min_length=1, description="what to make")
    width: int | None = Field(None, ge=8)
    height: int | None = Field(None, ge=8)
    guidance_scale: float = Field(3.5, description="100% of it")
    loop: bool = Field(False, description="again and again")
    way: Literal["up", "down"] = "up"
    inner: Inner = Inner()
    pair: tuple[int, int] = (1, 2)


def toy_parser(recipe: type[Recipe] = Toy) -> Parser:
    parser = add_command(Parser(prog="kinoform").add_subparsers(), "toy", lambda args: None, "Toys.")
    if "prompt" in recipe.model_fields:
        parser.add_argument("prompt", metavar="PROMPT", help="what to make")
    add_recipe_flags(parser, recipe, kind="clip")
    return parser


def parse(*arguments: str, recipe: type[Recipe] = Toy) -> Recipe:
    return parse_recipe(recipe, toy_parser(recipe).parse_args(arguments), kind="clip")


def test_every_scalar_field_is_a_flag_and_nothing_else_is():
    flags = set(toy_parser().flags())
    assert flags == {
        "--help", "--json", "--traceback", "--preset",
        "--size", "--guidance-scale", "--loop", "--no-loop", "--way",
    }  # fmt: skip


def test_a_flag_of_several_files_is_repeated_and_keeps_their_order():
    recipe = parse("a cube", "--lora", "b.safetensors:0.5", "--lora", "a.safetensors", "--embedding", "x.safetensors",
                   recipe=ClipRecipe)  # fmt: skip
    assert recipe.lora == ("b.safetensors:0.5", "a.safetensors")
    assert recipe.embeddings == ("x.safetensors",)
    assert parse("a cube", recipe=ClipRecipe).lora == ()


def test_values_reach_the_recipe_in_its_own_types():
    recipe = parse("a cube", "--size", "64x32", "--guidance-scale", "2", "--loop", "--way", "down")
    assert recipe == Toy(prompt="a cube", width=64, height=32, guidance_scale=2.0, loop=True, way="down")


def test_a_field_named_size_is_a_number_as_any_other():
    class Sized(Recipe):
        size: int = 64

    assert parse("--size", "32", recipe=Sized) == Sized(size=32)


def test_flags_not_given_leave_the_defaults():
    assert parse("a cube") == Toy(prompt="a cube")


def test_a_flag_wins_over_the_preset_and_the_preset_over_the_default():
    assert parse("a", recipe=ClipRecipe).steps == 14
    assert parse("a", "--preset", "draft", recipe=ClipRecipe).steps == 7
    assert parse("a", "--preset", "draft", "--steps", "3", recipe=ClipRecipe).steps == 3
    assert parse("a", "--preset", "draft", "--steps", "14", recipe=ClipRecipe).steps == 14


def test_help_shows_descriptions_choices_and_defaults():
    text = toy_parser().format_help()
    for part in (
        "what to make",
        "100% of it (default 3.5)",
        "{up,down}",
        "WxH",
        "the model's own",
        "draft, fine, long",
    ):
        assert part in " ".join(text.split())


@pytest.mark.parametrize("size", ["64", "64x", "x64", "64x64x3", "axb", "-64x64", "6.4x64", "64 64", ""])
def test_a_size_is_two_whole_numbers(size):
    with pytest.raises(InputError, match="WIDTHxHEIGHT"):
        parse("a cube", f"--size={size}")


@pytest.mark.parametrize("prompt", ["", " ", "\n\t "])
def test_a_prompt_has_words(prompt):
    with pytest.raises(InputError, match="prompt: expected"):
        parse(prompt)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "toy: expected PROMPT, got nothing. See: kinoform toy --help"),
        (("a", "--way"), "--way: expected one argument. See: kinoform toy --help"),
        (("a", "--way", "left"), "way: expected up or down, got left"),
        (("a", "--guidance-scale", "much"), "guidance_scale: expected a number, got much"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, message):
    with pytest.raises(InputError) as caught:
        parse(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        (["--guidance"], "Did you mean --guidance-scale?"),
        (["--guidance_scale=3"], "Did you mean --guidance-scale?"),
        (["--quirk"], "See: kinoform toy --help"),
        (["cube"], 'Put quotes around it: "a red cube"'),
    ],
)
def test_unknown_arguments_name_the_nearest(unknown, message):
    with pytest.raises(InputError) as caught:
        toy_parser().refuse(unknown)
    assert str(caught.value).endswith(message)
    assert f"got {unknown[0]}" in str(caught.value)


def test_a_choice_of_subcommands_names_the_nearest():
    parser = Parser(prog="kinoform")
    stages = parser.add_subparsers(metavar="STAGE")
    add_command(stages, "image", lambda args: None, "")
    add_command(stages, "video", lambda args: None, "")
    with pytest.raises(InputError) as caught:
        parser.parse_args(["vdeo"])
    assert str(caught.value) == "STAGE: expected image, video, got vdeo. Did you mean video?"


def test_run_gets_the_parsed_arguments():
    seen: list[argparse.Namespace] = []
    parser = Parser(prog="kinoform")
    add_command(parser.add_subparsers(), "toy", seen.append, "Toys.")
    args = parser.parse_args(["toy", "--json"])
    args.run(args)
    assert seen == [args]
    assert args.json is True
