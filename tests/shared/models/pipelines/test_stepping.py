"""A call in a thread, as a generator."""

import threading

import pytest

from shared.models.pipelines.stepping import Stopped, stepped


def test_steps_come_in_order_and_the_result_at_the_end():
    def call(tell):
        for step in range(3):
            tell(step + 1, 3)
        return "made"

    def follow():
        made.append((yield from stepped(call)))

    made = []
    assert list(follow()) == [(1, 3), (2, 3), (3, 3)]
    assert made == ["made"]


def test_nothing_runs_while_a_step_is_looked_at_nor_after_it_is_closed():
    ran = []
    stopped = []

    def call(tell):
        try:
            for step in range(5):
                ran.append(step)
                tell(step + 1, 5)
        except Exception:
            ran.append("held up")
        except BaseException as error:
            stopped.append(type(error))
            raise

    states = stepped(call)
    next(states)
    next(states)
    assert ran == [0, 1]
    states.close()
    assert (ran, stopped) == ([0, 1], [Stopped])
    assert not [thread for thread in threading.enumerate() if thread.name == "pipeline"]


def test_an_error_of_the_call_is_raised():
    def call(tell):
        tell(1, 2)
        raise ValueError("wrong")

    states = stepped(call)
    next(states)
    with pytest.raises(ValueError, match="wrong"):
        next(states)
