"""Words for where a camera is, in prompts."""

from shared.view_words import VIEW_WORDS, view_prompts, view_word, without_view_words


def test_prompts_say_the_view_once():
    assert view_prompts("a blue chair") == {word: f"a blue chair, {word}" for word in VIEW_WORDS}
    assert view_prompts("a blue chair, side view") == view_prompts("a blue chair")
    assert without_view_words("a side view mirror") == "a side view mirror"
    assert without_view_words("  a car, back view ") == "a car"
    # Every word that a camera can have has its prompt.
    assert {view_word(a, e) for a in range(-180, 180, 15) for e in (0, 80)} == set(VIEW_WORDS)
