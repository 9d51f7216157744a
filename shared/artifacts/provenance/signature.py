"""C2PA: a signature inside a file says who made it, and that a model did; whatever changes the file breaks it.

It is made where it is asked for alone: it holds numbers drawn for it, so that equal runs give no equal bytes any more.
The run record stays in the file, under the signature. Needs c2pa-python, which asks no network here: no time stamps, no
remote manifests. Specification: https://spec.c2pa.org, 2.2; the words for sources are IPTC's.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.artifacts.files import atomic_path
from shared.errors import InputError, one_line
from shared.version import VERSION

MEDIA_TYPES = {
    ".png": "image/png", ".apng": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
    ".gif": "image/gif", ".mp4": "video/mp4", ".mov": "video/quicktime",
}  # fmt: skip
GENERATED = "trainedAlgorithmicMedia"  # all of it is a model's
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # made by a model, and of a picture that was given
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
JUMBF = b"jumdc2pa"  # begins the description of a store of manifests, in every format (ISO 19566-5, C2PA 11.1.4)
BLOCK = 1 << 20
CURVES = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}
BUILDING = {"builder": {"thumbnail": {"enabled": False}}}
READING = {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True}
UNTRUSTED = "signingCredential.untrusted"
PIXEL = bytes.fromhex(  # a PNG of one, to try a certificate on
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


@dataclass(frozen=True)
class Signer:
    """certificate: PEM, the signer's own first and those above it after. key: PEM, without a password."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises InputError where the package or a file is missing, or the two cannot sign."""
        check_c2pa("--sign")
        self._sign(io.BytesIO(PIXEL), io.BytesIO(), ".png", "", GENERATED)

    def sign(self, source: Path, target: Path, origin: str = GENERATED) -> None:
        """Write `source`, signed, to `target`, which may be the same. origin: GENERATED or COMPOSITE.

        Raises InputError as `check` and `check_signable`, and what `atomic_path` raises.
        """
        check_signable([target])
        with source.open("rb") as opened, atomic_path(target) as part, part.open("wb+") as written:
            self._sign(opened, written, target.suffix.lower(), target.name, origin)

    def _sign(self, source: Any, target: Any, suffix: str, title: str, origin: str) -> None:
        import c2pa

        algorithm, key = _read_key(self.key)
        agent = {"name": "Kinoform", "version": VERSION}
        made = {"action": "c2pa.created", "digitalSourceType": SOURCES + origin, "softwareAgent": agent}
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [made]}}
        manifest = {"claim_generator_info": [agent], "title": title, "assertions": [actions]}
        try:
            who = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, _read(self.certificate), key, None))
            c2pa.Builder(manifest, c2pa.Context.from_dict(BUILDING)).sign(who, MEDIA_TYPES[suffix], source, target)
        except c2pa.C2paError as error:
            raise InputError(
                "--sign", expected="a certificate for signing, issued by another, and its key", got=_said(error),
                hint="docs/formats.md has commands that make a pair for tests",
            ) from error  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """What a file says of who made it. name, organisation: of the certificate, which anybody can make: `trusted` says
    whether it comes from one of those that were named as trusted. problems: what does not fit any more.
    """

    name: str
    organisation: str
    agent: str
    origin: str
    trusted: bool
    problems: tuple[str, ...]


def check_c2pa(what: str) -> None:
    """InputError, with what to install, where c2pa-python is not there. Imports nothing."""
    if importlib.util.find_spec("c2pa") is None:
        hint = "pip install 'kinoform[c2pa]'"
        raise InputError(what, expected="the package c2pa-python", got="none installed", hint=hint)


def check_signable(paths: Iterable[Path]) -> None:
    """Raises InputError for a file of a format that holds no signature."""
    for path in paths:
        if path.suffix.lower() not in MEDIA_TYPES:
            endings = ", ".join(MEDIA_TYPES)
            raise InputError(f"signed output {path}", expected=f"a name ending in {endings}", got=path.suffix or "none")


def is_signed(file: Path) -> bool:
    """Whether a file seems to hold a signature, right or wrong. Needs no package. Raises InputError as it is read."""
    if file.is_dir():
        return False
    try:
        with file.open("rb") as opened:
            before = b""
            while block := opened.read(BLOCK):
                if JUMBF in before + block:
                    return True
                before = block[-len(JUMBF) :]
    except OSError as error:
        raise InputError(f"file {file}", expected="a readable file", got=error.strerror) from error
    return False


def read_signature(file: Path, trusted: Path | None = None) -> Signature | None:
    """The signature of a file, tried; None where it holds none. trusted: PEM of certificates that are trusted.

    Raises InputError where the package or a file is missing, or `trusted` holds none.
    """
    if not is_signed(file):
        return None
    check_c2pa(f"signature of {file}")
    import c2pa

    anchors = {} if trusted is None else {"trust": {"user_anchors": _read_certificates(trusted)}}
    context = c2pa.Context.from_dict({"verify": READING, **anchors})
    media_type = MEDIA_TYPES.get(file.suffix.lower())
    try:
        with file.open("rb") as opened:
            found = json.loads(c2pa.Reader(media_type or "", opened, context=context).json())
    except c2pa.C2paError as error:
        return Signature("", "", "", "", False, (_said(error),))
    return _signature(found)


def _signature(found: dict[str, Any]) -> Signature:
    manifest = found["manifests"][found["active_manifest"]]
    who = manifest.get("signature_info") or {}
    agent: dict[str, str] = next(iter(manifest.get("claim_generator_info") or []), {})
    actions = [action for each in manifest.get("assertions", []) if each["label"].startswith("c2pa.actions")
               for action in each["data"].get("actions", [])]  # fmt: skip
    origin = next((action["digitalSourceType"] for action in actions if "digitalSourceType" in action), "")
    status = {each["code"]: each.get("explanation", "") for each in found.get("validation_status") or []}
    trusted = UNTRUSTED not in status and found.get("validation_state") == "Trusted"
    problems = tuple(f"{code}: {text}" for code, text in status.items() if code != UNTRUSTED)
    if not problems and found.get("validation_state") not in ("Valid", "Trusted"):
        problems = (f"its state is {found.get('validation_state')}",)
    return Signature(
        who.get("common_name") or "", who.get("issuer") or "",
        f"{agent.get('name', '')} {agent.get('version', '')}".strip(), origin.rpartition("/")[2], trusted, problems,
    )  # fmt: skip


def _read_key(file: Path) -> tuple[bytes, bytes]:
    """What a private key signs with, as C2PA calls it, and the key as PKCS #8."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    wanted = "a private key in PEM without a password: ECDSA, Ed25519 or RSA"
    try:
        key = serialization.load_pem_private_key(_read(file), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"--sign {file}", expected=wanted, got=one_line(str(error))) from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        algorithm = CURVES[key.curve.name]
    elif isinstance(key, (ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey)):
        algorithm = b"ps256" if isinstance(key, rsa.RSAPrivateKey) else b"ed25519"
    else:
        raise InputError(f"--sign {file}", expected=wanted, got=type(key).__name__)
    form = serialization.PrivateFormat.PKCS8
    return algorithm, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _read_certificates(file: Path) -> str:
    from cryptography import x509

    data = _read(file)
    try:
        x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise InputError(f"file {file}", expected="certificates in PEM", got=one_line(str(error))) from error
    return data.decode("ascii", "replace")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"file {file}", expected="a file that can be read", got=error.strerror) from error


def _said(error: Exception) -> str:
    return one_line(str(error), limit=200)
