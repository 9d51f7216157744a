"""What an actor of Ray's holds, here without Ray: the worker process behind it, and what it tells."""

import asyncio
import platform
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

from lab.batch.executors.executor import Assignment, Order
from lab.batch.executors.ray_far import Far
from shared.artifacts.files import sha256
from shared.version import VERSION
from tests.lab.batch.pictures import batch, hashes, manifest, picture


@asynccontextmanager
async def far(folder, **settings):
    made = Far(str(folder / "logs"), {"threads": 1, **settings})
    try:
        yield made
    finally:
        await made.close()


async def until(made, reports, event, seconds=100):
    """All that is told up to the first report of an event."""
    told = list(reports)
    async with asyncio.timeout(seconds):
        while not any(report["event"] == event for report in told):
            told += await made.poll(1.0)
    return told


def enlarge(folder, token, size=16, scale=4):
    source = picture(folder / "in/0.png", 0, size)
    order = Order(1, {"source": str(source), "scale": scale}, str(folder / f"stage/{token}/p0.png"))
    return Assignment(token, "upscale", (order,)).to_json()


def test_it_says_who_it_is_and_what_it_sees(tmp_path):
    (tmp_path / "shared").write_text("the same")

    async def greetings():
        async with far(tmp_path) as made:
            return await made.greet(str(tmp_path / "shared")), await made.greet(str(tmp_path / "none"))

    first, second = asyncio.run(greetings())
    assert first == {"host": platform.node(), "version": VERSION, "seen": "the same"}
    assert "No such file" in second["seen"]


def test_what_it_makes_is_what_a_batch_here_makes(tmp_path):
    path = manifest(tmp_path, 1, chain=False, scale=4)
    made = batch("run", path, "--out", "out", folder=tmp_path)
    assert made.returncode == 0, made.stderr

    async def work():
        async with far(tmp_path) as made:
            reports = await until(made, await made.give(enlarge(tmp_path, 3), 1.0), "ended")
            again = await until(made, await made.give(enlarge(tmp_path, 4), 1.0), "ended")
            return reports, again

    for reports, token in zip(asyncio.run(work()), (3, 4), strict=True):
        assert {each["token"] for each in reports} == {token}
        assert [each["event"] for each in reports if each["event"] != "alive"] == ["made", "ended"]
        assert sha256(tmp_path / f"stage/{token}/p0.png") == hashes(tmp_path / "out")["p0.png"]


def test_a_worker_that_dies_of_its_work_is_told_from_one_that_is_taken_away(tmp_path):
    async def work():
        async with far(tmp_path, memory=1500 * 2**20) as made:
            broke = await until(made, await made.give(enlarge(tmp_path, 5, 2000, 16), 1.0), "ended")
            await made.give(enlarge(tmp_path, 6), 0.0)
            (worker,) = made._local.workers
            worker.process.kill()
            return broke, await until(made, [], "gone")

    broke, taken = asyncio.run(work())
    assert [(each["event"], each["fault"]) for each in broke] == [("broke", "work"), ("ended", None)]
    assert [(each["event"], each["fault"]) for each in taken if each["event"] == "gone"] == [("gone", None)]


def test_an_order_to_end_is_heard_while_it_waits_for_news(tmp_path):
    async def work():
        async with far(tmp_path) as made:
            heard = []
            made._local = SimpleNamespace(poll=lambda seconds: [], cancel=heard.append, close=lambda: None)
            waiting = asyncio.create_task(made.poll(60.0))
            await asyncio.sleep(0.05)
            await made.cancel(9)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            return heard

    assert asyncio.run(work()) == [9]
