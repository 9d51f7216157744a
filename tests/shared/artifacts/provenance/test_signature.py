"""Signatures by C2PA: who, untouched or not, and the record stays; with certificates made here."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from shared.artifacts.media import CLIP_SUFFIXES, IMAGE_SUFFIXES, TAG, read_clip, read_image, write_clip, write_image
from shared.artifacts.provenance.signature import COMPOSITE, GENERATED, MEDIA_TYPES, Signer, is_signed, read_signature
from shared.artifacts.run_record import RunRecord, read_record
from shared.errors import InputError
from tests.shared.artifacts.provenance.certificates import KEYS, make_pair

RECORD = RunRecord.of_run("image", {"prompt": "a red cube", "seed": 1, "model": "none"}, 1, "none", {})
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def signer(pair):
    return Signer(pair.certificate, pair.key)


def written(path, *, moving=False):
    if moving or path.suffix not in IMAGE_SUFFIXES:
        write_clip(path, PIXELS, 8, {TAG: RECORD.to_json()})
    else:
        write_image(path, PIXELS[0], {TAG: RECORD.to_json()})
    return path


def shown(path):
    return read_image(path) if path.suffix in IMAGE_SUFFIXES else read_clip(path).frames


@pytest.mark.parametrize(("suffix", "moving"), [*((s, False) for s in MEDIA_TYPES), (".webp", True)])
def test_a_file_says_who_signed_it_and_keeps_its_record_and_its_pictures(tmp_path, signer, pair, suffix, moving):
    path = written(tmp_path / f"a{suffix}", moving=moving)
    before = shown(path)
    assert not is_signed(path)
    assert read_signature(path) is None
    signer.sign(path, path)
    found = read_signature(path)
    assert (found.name, found.organisation, found.origin) == ("Ada", "Test Studio", GENERATED)
    assert found.agent.startswith("Kinoform ")
    assert not found.trusted
    assert found.problems == ()
    assert read_signature(path, pair.root).trusted
    assert read_record(path) == RECORD
    np.testing.assert_array_equal(shown(path), before)


def test_every_format_of_pictures_and_clips_is_signed_or_refused(signer, tmp_path):
    left = {*IMAGE_SUFFIXES, *CLIP_SUFFIXES} - MEDIA_TYPES.keys()
    assert left == {".webm", ""}
    written(tmp_path / "a.png")
    for name in ("a.webm", "a.glb", "a"):
        with pytest.raises(InputError, match=r"expected a name ending in \.png"):
            signer.sign(tmp_path / "a.png", tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".mp4"])
def test_any_byte_that_is_changed_is_noticed(tmp_path, signer, suffix):
    """Wherever the file held something before it was signed."""
    path = written(tmp_path / f"a{suffix}")
    plain = path.read_bytes()
    signer.sign(path, path)
    signed = path.read_bytes()
    end = next(n for n in range(len(plain)) if plain[n] != signed[n])  # where the signature begins
    tail = next(n for n in range(1, len(plain)) if plain[-n] != signed[-n]) - 1
    start = int.from_bytes(plain[:4], "big") if suffix == ".mp4" else 2  # C2PA leaves out the first box, of brands
    places = [*np.linspace(start, end - 1, 12).astype(int), *(len(signed) - np.linspace(1, tail, 12).astype(int))]
    for place in places:
        path.write_bytes(signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :])
        assert read_signature(path).problems, place
    path.write_bytes(signed[:-5])
    assert read_signature(path).problems


def test_a_signature_that_is_damaged_is_no_good_one(tmp_path, signer):
    path = written(tmp_path / "a.png")
    signer.sign(path, path)
    data = path.read_bytes()
    assert b"c2pa.created" in data
    path.write_bytes(data.replace(b"c2pa.created", b"c2pa.edited!"))
    assert read_signature(path).problems


def test_a_signature_of_one_file_is_none_of_another(tmp_path, signer):
    one, other = written(tmp_path / "a.png"), tmp_path / "b.png"
    write_image(other, PIXELS[1], {TAG: RECORD.to_json()})
    plain = one.read_bytes()
    signer.sign(one, one)
    signed, theirs = one.read_bytes(), other.read_bytes()
    start = next(n for n in range(len(plain)) if plain[n] != signed[n])
    chunk = signed[start : start + len(signed) - len(plain)]
    other.write_bytes(theirs[:start] + chunk + theirs[start:])
    assert read_signature(other).problems


@pytest.mark.parametrize("algorithm", KEYS)
def test_every_sort_of_key_signs(tmp_path, algorithm):
    pair = make_pair(tmp_path / algorithm, name="Grace", algorithm=algorithm)
    path = written(tmp_path / "a.png")
    Signer(pair.certificate, pair.key).sign(path, path, COMPOSITE)
    found = read_signature(path, pair.root)
    assert (found.name, found.origin, found.trusted, found.problems) == ("Grace", COMPOSITE, True, ())


def test_nobody_is_trusted_for_a_name(tmp_path, signer):
    other = make_pair(tmp_path / "other")
    path = written(tmp_path / "a.png")
    signer.sign(path, path)
    found = read_signature(path, other.root)
    assert (found.trusted, found.problems) == (False, ())


def test_what_cannot_sign_is_refused_in_a_line(tmp_path, pair):
    other = make_pair(tmp_path / "other")
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"rubbish")
    Signer(pair.certificate, pair.key).check()
    for certificate, key, line in (
        (pair.certificate, other.key, "does not match"),
        (pair.root, pair.key, "issued by another"),
        (rubbish, pair.key, "expected a certificate"),
        (pair.certificate, rubbish, "expected a private key in PEM"),
        (pair.certificate, Path("gone.pem"), "expected a file that can be read"),
    ):
        with pytest.raises(InputError, match=line):
            Signer(certificate, key).check()
    path = written(tmp_path / "a.png")
    Signer(pair.certificate, pair.key).sign(path, path)
    with pytest.raises(InputError, match="expected certificates in PEM"):
        read_signature(path, rubbish)


def test_without_the_package_a_line_names_it(tmp_path, signer, monkeypatch):
    path, plain = written(tmp_path / "a.png"), written(tmp_path / "plain.png")
    signer.sign(path, path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "c2pa" else found(name, *rest))
    wanted = r"expected the package c2pa-python, got none installed\. pip install 'kinoform\[c2pa\]'$"
    with pytest.raises(InputError, match="^--sign: " + wanted):
        signer.check()
    with pytest.raises(InputError, match="^signature of .*a.png: " + wanted):
        read_signature(path)
    assert read_signature(plain) is None  # that needs none


def test_the_mark_of_a_signature_is_found_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.artifacts.provenance.signature.BLOCK", 8)
    path = tmp_path / "a"
    for shift in range(17):
        path.write_bytes(b"." * shift + b"jumdc2pa" + b"." * 30)
        assert is_signed(path), shift
    path.write_bytes(b"jumd" * 20)
    assert not is_signed(path)
