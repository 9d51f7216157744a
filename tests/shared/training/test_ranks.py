"""Several processes that train one network: the same as one process whose steps have as many batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import distributed as dist
from torch import multiprocessing, nn

from shared.training import ranks
from shared.training.loop import Training
from shared.training.recipe import StageRecipe
from tests.tiny import build_image_folder
from tests.tolerances import close
from tests.video.tiny import write_clips

ROOT = Path(__file__).resolve().parents[3]
RECIPE = StageRecipe(steps=5, learning_rate=0.1, warmup_steps=1)


def trained(recipe: StageRecipe) -> torch.Tensor:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(3, 1), torch.randn(10, 4, 3)
    list(Training(recipe, {"layer": layer}, None).run(lambda n: (layer(inputs[n]).square().mean(), {})))
    return layer.weight.detach()


def averaged(rank: int) -> list[list[float] | None]:
    """Of three weights both processes know the first's gradient, one the second's, none the third's."""
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    weights[0].grad = torch.tensor([float(rank), 3.0])
    if rank:
        weights[1].grad = torch.tensor([1.0, 2.0])
    ranks.average_gradients(weights)
    return [None if weight.grad is None else weight.grad.tolist() for weight in weights]


def failed() -> bool:
    """The first process fails where it goes first; the second comes after it all the same."""
    try:
        with ranks.first():
            if ranks.rank() == 0:
                raise OSError("no space left")
    except OSError:
        return True
    return False


def one_of_two(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    order = []
    with ranks.first():
        Path(folder, f"came-{rank}").touch()
        order = sorted(file.name for file in Path(folder).glob("came-*"))
    torch.save(
        {"weight": trained(RECIPE), "order": order, "gradients": averaged(rank), "failed": failed()},
        Path(folder, f"{rank}.pt"),
    )
    dist.destroy_process_group()


def test_two_take_the_steps_of_one_with_twice_the_batches(tmp_path):
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first["weight"], second["weight"])
    alone = trained(RECIPE.model_copy(update={"accumulate": 2}))
    torch.testing.assert_close(first["weight"], alone, **close(torch.float32))
    assert first["gradients"] == second["gradients"] == [[0.5, 3.0], [0.5, 1.0], None]
    assert (first["failed"], second["failed"]) == (True, False)
    assert (first["order"], second["order"]) == (["came-0"], ["came-0", "came-1"])


def test_alone_nothing_waits():
    assert (ranks.rank(), ranks.count()) == (0, 1)
    with ranks.first():
        weight = nn.Parameter(torch.zeros(2))
        ranks.average_gradients([weight])
    assert weight.grad is None


def test_the_command_trains_under_torchrun_and_speaks_once(tmp_path):
    data = write_clips(tmp_path / "data")
    common = [
        "train", "video", "--data", str(data), "--steps", "2", "--batch-size", "1", "--frames", "4", "--warmup-steps",
        "1", "--embed-dim", "16", "--head-dim", "8", "--precision", "fp32", "--device", "cpu", "--json",
        "--preview-every", "2",
    ]  # fmt: skip
    made = {}
    for name, start, flags in (
        ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "lab.main"], []),
        ("one", ["-m", "lab.main"], ["--accumulate", "2"]),
    ):
        out = build_image_folder(tmp_path / name)
        run = subprocess.run(
            [sys.executable, *start, *common, "--out", str(out), *flags],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        (line,) = run.stdout.splitlines()
        assert json.loads(line)["steps"] == 2
        made[name] = load_file(out / "temporal" / "diffusion_pytorch_model.safetensors")
    for key, tensor in made["one"].items():
        torch.testing.assert_close(made["two"][key].float(), tensor.float(), rtol=1e-2, atol=2e-4)
