"""Certificates for tests, made here: a root, and signers that it vouches for."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True)
class Pair:
    """PEM files: a signer's certificate with its root's after it, its key, and that root alone."""

    certificate: Path
    key: Path
    root: Path


def make_pair(folder, name="Ada", organisation="Test Studio", algorithm="es256"):
    folder.mkdir(parents=True, exist_ok=True)
    root_key, key = KEYS["es256"](), KEYS[algorithm]()
    root_name = _name("Root", organisation)
    root = _certificate(root_name, root_name, root_key, root_key, is_root=True)
    own = _certificate(_name(name, organisation), root_name, key, root_key, is_root=False)
    pair = Pair(folder / "cert.pem", folder / "key.pem", folder / "root.pem")
    pem = serialization.Encoding.PEM
    pair.root.write_bytes(root.public_bytes(pem))
    pair.certificate.write_bytes(own.public_bytes(pem) + root.public_bytes(pem))
    pair.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return pair


def _name(common, organisation):
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _certificate(subject, issuer, key, issuer_key, *, is_root):
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=not is_root, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=is_root, crl_sign=is_root, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + 30 * day)
        .add_extension(x509.BasicConstraints(is_root, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_root:
        wanted = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # as C2PA asks for
        builder = builder.add_extension(wanted, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
