"""The benchmark of kills, on a batch without a model and at some of its ledger's writes."""

from benchmarks.batch_crash import Found, at_every_write, judge, manifest
from benchmarks.batches import Seen, hashes, kinoform
from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Entry
from tests.lab.batch.pictures import picture


def test_a_small_batch_survives_a_kill_at_its_ledgers_writes(tmp_path):
    picture(tmp_path / "source.png")
    path = manifest(tmp_path, tools=True, pictures=1, clips=0, source=tmp_path / "source.png")
    kinoform("batch", "run", str(path), "--out", "plain", cwd=tmp_path).check_returncode()
    writes, found = at_every_write(path, hashes(tmp_path / "plain"), tmp_path, step=5)
    assert writes >= 9  # of three tasks: leased, intended, published
    assert found.kills["write"] >= 2 * (writes // 5)
    assert found.bad() == 0


def test_it_counts_what_is_lost_changed_and_made_twice(tmp_path):
    picture(tmp_path / "source.png")
    path = manifest(tmp_path, tools=True, pictures=1, clips=0, source=tmp_path / "source.png")
    made = kinoform("batch", "run", str(path), "--out", "out", cwd=tmp_path)
    wanted = hashes(tmp_path / "out")
    said = tmp_path / "said.txt"
    said.write_text(made.stdout + "made n0.png\n")
    (tmp_path / "out/results/n0-upscale.png").write_bytes(b"changed")
    found = Found()
    judge(tmp_path / "out", said, {**wanted, "gone.png": "0"}, found)
    assert (found.lost, found.corrupt, found.twice) == (1, 1, 1)


def test_it_sees_what_is_begun_again_and_what_is_made_again(tmp_path):
    seen = Seen(tmp_path)
    seen.look()
    ledger = Ledger.open(tmp_path / "batch.sqlite")
    enqueue(ledger, "m", [Entry(id, "image", {}, {}, f"{id}.png", id, "m|image|1") for id in "abc"], now=1)
    for made, hidden in ((), "2"), ("1", "3"), ("2", ()):
        rows = ledger.lease("w", {"image": 2}, now=1)
        for number in made:
            picture(tmp_path / f".batch/stage/{rows[0].token}/{number}/a.png")
        for number in hidden:
            (tmp_path / f".batch/stage/{rows[0].token}/{number}/.a.png.0123").mkdir(parents=True)
        seen.look()
        for row in rows:
            ledger.give_back(row.number, row.token, now=2)
    ledger.close()
    assert seen.leases == {1: {1, 2, 3}, 2: {1, 2, 3}}
    assert (seen.again(), seen.redone()) == (4, 1)  # of what the last lease made nothing is made again
