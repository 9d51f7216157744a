"""`kinoform verify`, and `--sign` of the commands that make files."""

import json

import numpy as np
import pytest

from lab.main import main
from shared.artifacts.media import read_image, write_image
from shared.artifacts.provenance.signature import read_signature
from shared.artifacts.run_record import read_record
from tests.lab.batch.pictures import batch, manifest, picture
from tests.lab.command import is_refusal, kinoform
from tests.shared.artifacts.provenance.certificates import make_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def sign(pair):
    return ["--sign", str(pair.certificate), str(pair.key)]


def image(model, path, *flags):
    return main(["image", "a red cube", "--model", str(model), "--steps", "2", "-o", str(path), *flags])


def verified(capsys, *arguments):
    capsys.readouterr()
    code = main(["verify", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_a_signed_file_is_verified_and_made_again_without_the_signature(model, tmp_path, sign, pair, capsys):
    plain, signed, again = tmp_path / "plain.png", tmp_path / "signed.png", tmp_path / "again.png"
    assert image(model, plain) == image(model, signed, *sign) == 0
    assert plain.read_bytes() != signed.read_bytes()
    assert read_record(signed) == read_record(plain)
    code, told, _ = verified(capsys, signed, "--trust", pair.root)
    assert (code, told["signed"], told["untouched"], told["problems"]) == (0, True, True, [])
    wanted = {"name": "Ada", "organisation": "Test Studio", "origin": "trainedAlgorithmicMedia", "trusted": True}
    assert {key: told["signature"][key] for key in wanted} == wanted
    assert told["record"]["recipe"]["prompt"] == "a red cube"
    assert main(["rerun", str(signed), "-o", str(again)]) == 0
    assert again.read_bytes() == plain.read_bytes()


def test_a_rerun_is_signed_where_it_is_asked_to_be(model, tmp_path, sign, pair, capsys):
    plain, signed, again = (tmp_path / f"{name}.png" for name in ("plain", "signed", "again"))
    assert image(model, plain) == image(model, signed, *sign) == 0
    assert main(["rerun", str(signed), "-o", str(again), *sign]) == 0
    made = read_signature(again, pair.root)
    assert (made.name, made.origin, made.trusted, made.problems) == ("Ada", "trainedAlgorithmicMedia", True, ())
    assert read_record(again) == read_record(plain)
    assert (read_image(again) == read_image(plain)).all()
    assert main(["rerun", str(again), "-o", str(tmp_path / "unsigned.png")]) == 0
    assert (tmp_path / "unsigned.png").read_bytes() == plain.read_bytes()
    assert main(["rerun", str(signed), "-o", str(tmp_path / "no.png"), "--sign", str(pair.root), str(pair.key)]) == 2
    assert "--sign: expected a certificate for signing" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()


def test_a_rerun_of_a_tool_is_signed_too(tmp_path, sign, capsys):
    assert batch("run", manifest(tmp_path, 1), "--out", "out", folder=tmp_path).returncode == 0
    made = tmp_path / "out/results/p0.png"
    again = tmp_path / "out/results/again.png"
    assert main(["rerun", str(made), "-o", str(again), *sign]) == 0
    assert read_signature(again).problems == ()
    assert read_record(again) == read_record(made)
    assert (read_image(again) == read_image(made)).all()
    (text, *_) = made.parent.glob("*.json")
    capsys.readouterr()
    refused = main(["rerun", str(text), *sign])
    assert is_refusal(refused, capsys.readouterr().err, "signed output", "expected a name ending in .png")


def test_a_changed_file_fails_and_says_so(model, tmp_path, sign, capsys):
    path = tmp_path / "a.png"
    assert image(model, path, *sign) == 0
    data = bytearray(path.read_bytes())
    data[-30] ^= 1  # of the pixels
    path.write_bytes(data)
    code, told, error = verified(capsys, path)
    assert (code, told["untouched"]) == (1, False)
    assert "expected as it was signed, got assertion.dataHash.mismatch" in error
    assert main(["verify", str(path)]) == 1
    assert "CHANGED since" in capsys.readouterr().out


def test_without_a_signature_the_record_is_looked_at(model, tmp_path, capsys):
    path = tmp_path / "a.png"
    assert image(model, path) == 0
    code, told, _ = verified(capsys, path)
    assert (code, told["signed"], told["untouched"], told["record"]["seed"]) == (0, False, None, 0)
    write_image(tmp_path / "b.png", np.zeros((8, 8, 3), np.uint8))
    code, told, error = verified(capsys, tmp_path / "b.png")
    assert (code, told) == (2, None)
    assert "expected a file made by kinoform" in error
    assert verified(capsys, tmp_path / "gone.png")[0] == 2


def test_a_picture_of_a_picture_is_a_composite_and_of_several_each_is_signed(model, tmp_path, sign):
    given = picture(tmp_path / "given.png", size=64)
    assert image(model, tmp_path / "edit.png", "--image", str(given), *sign) == 0
    assert read_signature(tmp_path / "edit.png").origin == "compositeWithTrainedAlgorithmicMedia"
    # Made unsigned before, so that it is made again; the second time both are there already.
    assert image(model, f"{tmp_path}/out/", "--count", "2") == 0
    assert image(model, f"{tmp_path}/out/", "--count", "2", *sign) == 0
    files = {file: file.read_bytes() for file in (tmp_path / "out").glob("*cube*.png")}
    assert len(files) == 2
    assert all(read_signature(file) for file in files)
    assert image(model, f"{tmp_path}/out/", "--count", "2", *sign) == 0
    assert {file: file.read_bytes() for file in files} == files


def test_the_best_of_several_is_signed(model, tmp_path, sign, monkeypatch):
    monkeypatch.setattr("lab.commands.make._scorer", lambda *_: type("Scorer", (), {"score": lambda *_: 0.0}))
    assert image(model, tmp_path / "a.png", "--best-of", "2", *sign) == 0
    assert read_signature(tmp_path / "a.png") is not None


def test_what_holds_no_signature_and_who_cannot_sign_is_refused_before_the_work(model, tmp_path, sign, pair, capsys):
    assert image(model, tmp_path / "a.png", "--sign", str(pair.root), str(pair.key)) == 2
    assert "--sign: expected a certificate for signing" in capsys.readouterr().err
    assert main(["clip", "a red ball", "--model", str(model), "-o", str(tmp_path / "a.webm"), *sign]) == 2
    assert "expected a name ending in .png" in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*"))


def test_results_of_a_batch_are_signed_once_and_then_left(tmp_path, sign):
    path = manifest(tmp_path, 2)
    made = batch("run", path, "--out", "out", *sign, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stderr.count(".json files stay unsigned") == 1
    pictures = sorted((tmp_path / "out/results").glob("*.png"))
    assert len(pictures) == 4
    assert all(read_signature(file).problems == () for file in pictures)
    before = {file: file.read_bytes() for file in pictures}
    again = batch("run", path, "--out", "out", *sign, folder=tmp_path)
    assert "made" not in again.stdout
    assert {file: file.read_bytes() for file in pictures} == before
    told = kinoform("verify", pictures[0], folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "signed by Ada (Test Studio), untouched since" in told.stdout
