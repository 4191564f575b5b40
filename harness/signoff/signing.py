"""Ed25519 keys in files, and an in-toto statement in a DSSE envelope, by securesystemslib and cryptography.

A private key is in a file that its owner alone can read, is never in a message, and leaves this module in no form.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import UsageError
from runtime.files import open_regular, sha256_hex, write_atomic

__all__ = [
    "PAYLOAD_TYPE",
    "PUBLIC_SUFFIX",
    "Envelope",
    "PrivateKey",
    "PublicKey",
    "SignatureError",
    "load_private_key",
    "load_public_key",
    "make_key",
    "read_secret",
    "said_by",
    "seal",
    "unseal",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PUBLIC_SUFFIX = ".pub"
_MOST_KEY_BYTES = 16 << 10
_MOST_PASSPHRASE_BYTES = 1023
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SignatureError(ValueError):
    """An envelope that is not signed, not by the given key, or is not what was signed. ``str()`` says which."""


@dataclass(frozen=True)
class PublicKey:
    """``id``: SHA-256 of the key's SubjectPublicKeyInfo in DER, as ``openssl pkey -pubin -outform DER | sha256sum`` says."""

    id: str
    pem: bytes = field(repr=False)
    _key: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class PrivateKey:
    """One that can sign; nothing of it can be printed."""

    public: PublicKey
    _signer: Any = field(repr=False, compare=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled")


@dataclass(frozen=True)
class Envelope:
    """What was in one. ``is_trusted``: a key was given, and the signature is its. ``signer``: the key id it names."""

    statement: Mapping[str, Any]
    signer: str
    is_trusted: bool


def make_key(path: Path, passphrase: bytes | None = None) -> PublicKey:
    """A new key pair: PKCS #8 PEM at ``path`` with mode 0600, the public half beside it in ``path`` + ``.pub``.

    ``passphrase``: encrypts the private half. Neither file may exist. Raises ``UsageError``; then nothing is left.
    """
    library = _cryptography()
    if passphrase is not None and not passphrase:
        raise UsageError("the passphrase is empty. Give one, or none at all.")
    if not path.name:
        raise UsageError(f"{path} names no file. Name the private key to be, as release.key.")
    public_path = _beside(path)
    for one in (path, public_path):
        if os.path.lexists(one):
            raise UsageError(f"{one} exists, and a key is never written over. Name another --out.")
    private = library.ed25519.Ed25519PrivateKey.generate()
    kept = library.serialization.NoEncryption()
    if passphrase is not None:
        if len(passphrase) > _MOST_PASSPHRASE_BYTES:
            raise UsageError(f"the passphrase is longer than {_MOST_PASSPHRASE_BYTES} bytes. Give a shorter one.")
        kept = library.serialization.BestAvailableEncryption(passphrase)
    pem = private.private_bytes(library.serialization.Encoding.PEM, library.serialization.PrivateFormat.PKCS8, kept)
    public = _public(private.public_key())
    try:
        _write_private(path, pem)
        try:
            write_atomic(public_path, public.pem)
        except BaseException:
            path.unlink()
            raise
    except FileExistsError:
        raise UsageError(f"{path} exists, and a key is never written over. Name another --out.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error
    return public


def load_private_key(path: Path, passphrase: Callable[[], bytes | None] = lambda: None) -> PrivateKey:
    """The key in a PKCS #8 PEM file; ``passphrase`` is asked where it is encrypted.

    Raises ``UsageError`` for no Ed25519 key, a wrong passphrase, and a file that others than its owner can read.
    """
    library = _cryptography()
    pem = read_secret(path, "the private key")
    try:
        if b"BEGIN OPENSSH" in pem:
            raise UsageError(f"{path} is a key of OpenSSH; expected PKCS #8 PEM. Make one with `trigate key new`.")
        if b"PRIVATE KEY-----" not in pem:
            raise UsageError(f"{path} is no private key: expected PKCS #8 PEM, as `trigate key new` writes it.")
        secret = passphrase() if b"ENCRYPTED" in pem else None
        if b"ENCRYPTED" in pem and not secret:
            raise UsageError(f"{path} is encrypted. Give --passphrase-file, or set TRIGATE_KEY_PASSPHRASE.")
        private = library.serialization.load_pem_private_key(pem, secret)
    except (ValueError, TypeError, library.UnsupportedAlgorithm):  # its words may quote what it was given
        why = "the passphrase is not the right one, or the file is damaged" if b"ENCRYPTED" in pem else "it is damaged"
        raise UsageError(f"{path} cannot be read as a private key: {why}.") from None
    if not isinstance(private, library.ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 key. Make one with `trigate key new`.")
    public = _public(private.public_key())
    return PrivateKey(public, library.CryptoSigner(private, public._key))


def load_public_key(path: Path) -> PublicKey:
    """The Ed25519 key in a PEM file. Raises ``UsageError``; for a private key as well, which is not asked for here."""
    library = _cryptography()
    pem = _read_key(path, "the public key")
    if b"PRIVATE KEY-----" in pem:
        raise UsageError(f"{path} is a private key; expected the public one. It is in {_beside(path).name} beside it.")
    try:
        public = library.serialization.load_pem_public_key(pem)
    except (ValueError, library.UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is no public key: expected PEM, as `trigate key new` writes it.") from error
    if not isinstance(public, library.ed25519.Ed25519PublicKey):
        raise UsageError(f"{path} is no Ed25519 key; expected one that `trigate key new` made.")
    return _public(public)


def read_secret(path: Path, what: str) -> bytes:
    """A small file that its owner alone can read. Raises ``UsageError``, with the ``chmod`` that mends it."""
    return _read_key(path, what, is_secret=True)


def seal(statement: Mapping[str, Any], key: PrivateKey) -> bytes:
    """A DSSE envelope around a statement, signed. JSON with one newline at its end: the only form ``unseal`` takes."""
    library = _cryptography()
    envelope = library.Envelope(_payload(statement), PAYLOAD_TYPE, {})
    envelope.sign(key._signer)
    return _text(envelope.to_dict())


def unseal(data: bytes, key: PublicKey | None) -> Envelope:
    """The statement in an envelope, if ``key`` signed just this; without a key, whatever it says, not trusted.

    Raises ``SignatureError``. Every byte counts: an envelope that was written otherwise is refused, although it may mean
    the same.
    """
    library = _cryptography()
    try:
        table = json.loads(data)
        signatures = table["signatures"]
        payload_type, count = table["payloadType"], len(signatures)
        signer = str(signatures[0]["keyid"]) if count else ""
        rebuilt = library.Envelope.from_dict(json.loads(data))
        is_ours = _text(rebuilt.to_dict()) == data
    except library.malformed as error:
        raise SignatureError(f"it is no DSSE envelope: {type(error).__name__}: {_first_line(error)}") from error
    if not count:
        raise SignatureError("it is not signed: the envelope has no signature")
    if count > 1:
        raise SignatureError(f"it has {count} signatures, and one is expected: a signature was added")
    if payload_type != PAYLOAD_TYPE:
        raise SignatureError(f"its payloadType is {payload_type!r}; expected {PAYLOAD_TYPE!r}")
    if not is_ours or _again(rebuilt.payload) != rebuilt.payload:
        by_ends = not is_ours and _text(rebuilt.to_dict()) == data.replace(b"\r\n", b"\n")
        what = "line ends were changed, as by a copy as text" if by_ends else "bytes were changed"
        raise SignatureError(f"the envelope is not written as it was when it was signed: its {what}")
    if key is not None:
        _check(rebuilt, signer, key)
    return Envelope(_statement(rebuilt.payload), signer, key is not None)


def said_by(data: bytes) -> Envelope | None:
    """What an envelope says, however it is written and whoever wrote it: to name what differs from it, and to believe nothing."""
    try:
        table = json.loads(data)
        signer = str(table["signatures"][0]["keyid"]) if table["signatures"] else ""
        return Envelope(_statement(base64.b64decode(table["payload"])), signer, False)
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _check(envelope: Any, signer: str, key: PublicKey) -> None:
    library = _cryptography()
    if signer != key.id:
        raise SignatureError(
            f"it is signed by the key {signer[:16]}, not by {key.id[:16]} that you trust: a foreign key"
        )
    try:
        envelope.verify([key._key], 1)
    except library.errors as error:
        raise SignatureError(
            f"the signature is not of this content by the key {key.id[:16]}: the statement or the signature was changed"
        ) from error


def _payload(statement: Mapping[str, Any]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _statement(payload: bytes) -> Mapping[str, Any]:
    try:
        statement = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"its payload is not JSON: {_first_line(error)}") from error
    if not isinstance(statement, dict):
        raise SignatureError("its payload is no in-toto statement")
    return statement


def _again(payload: bytes) -> bytes:
    """As ``seal`` spells it: a key twice, which others may read otherwise, is not spelled so."""
    try:
        return _payload(_statement(payload))
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"its payload is none that is signed: {_first_line(error)}") from error


def _text(table: Mapping[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, ensure_ascii=True) + "\n").encode()


def _write_private(path: Path, pem: bytes) -> None:
    """Never readable by others, not for an instant: the file is made so, and never over one that is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _read_key(path: Path, what: str, *, is_secret: bool = False) -> bytes:
    try:
        with open_regular(path, follow=True) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_KEY_BYTES) or b""
            if is_secret and b"BEGIN PUBLIC KEY" in data:
                raise UsageError(f"{path} is a public key; expected {what}, which is in a file of its own beside it.")
            if is_secret and os.name != "nt" and mode & _OTHERS:
                raise UsageError(
                    f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); {what} is not used so. "
                    f"Run: chmod 600 {path}. If anybody may have read it, make a new key."
                )
            return data
    except FileNotFoundError:
        how = "Make a key with `trigate key new`." if what == "the private key" else "Get it from whoever signs."
        mend = how if what.endswith("key") else "Name another --passphrase-file."
        raise UsageError(f"{path} does not exist; expected {what}. {mend}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read as {what}: {error.strerror or error}.") from error


def _public(key: Any) -> PublicKey:
    library = _cryptography()
    form = library.serialization.PublicFormat.SubjectPublicKeyInfo
    identity = sha256_hex(key.public_bytes(library.serialization.Encoding.DER, form))
    pem = key.public_bytes(library.serialization.Encoding.PEM, form)
    return PublicKey(identity, pem, library.SSlibKey.from_crypto(key, keyid=identity))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + PUBLIC_SUFFIX)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]


@dataclass(frozen=True)
class _Library:
    ed25519: Any
    serialization: Any
    UnsupportedAlgorithm: type[Exception]
    CryptoSigner: Any
    SSlibKey: Any
    Envelope: Any
    errors: tuple[type[Exception], ...]

    @property
    def malformed(self) -> tuple[type[Exception], ...]:
        return (ValueError, KeyError, TypeError, AttributeError, RecursionError, *self.errors)


def _cryptography() -> _Library:
    """The one door to both libraries. Raises ``UsageError`` where they are not installed."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
        from securesystemslib import dsse, exceptions
        from securesystemslib.signer import CryptoSigner, SSlibKey
    except ImportError as missing:
        raise UsageError(
            f"signing needs securesystemslib and cryptography ({missing}): pip install 'trigate[report]'"
        ) from missing
    errors = (exceptions.Error, exceptions.VerificationError, exceptions.UnverifiedSignatureError)
    return _Library(ed25519, serialization, UnsupportedAlgorithm, CryptoSigner, SSlibKey, dsse.Envelope, errors)
