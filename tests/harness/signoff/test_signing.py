"""Keys in files, and what an envelope promises: every byte of it, and nothing without the key."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.signoff.signing import (
    PAYLOAD_TYPE,
    SignatureError,
    load_private_key,
    load_public_key,
    make_key,
    read_secret,
    seal,
    unseal,
)

STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "subject": []}


@pytest.mark.covers("RE-03")
def test_a_private_key_is_never_readable_by_others_and_its_public_half_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = make_key(tmp_path / "k")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert (tmp_path / "k").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert load_public_key(tmp_path / "k.pub") == made == load_private_key(tmp_path / "k").public
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k", "k.pub"]


@pytest.mark.covers("RE-03")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_key_that_others_can_open_is_refused_with_what_mends_it(mode: int, tmp_path: Path) -> None:
    make_key(tmp_path / "k")
    (tmp_path / "k").chmod(mode)
    with pytest.raises(
        UsageError, match=rf"can be read by others \(mode {mode:04o}\).* Run: chmod 600 .*/k\. If anybody"
    ):
        load_private_key(tmp_path / "k")
    (tmp_path / "k").chmod(0o600)
    load_private_key(tmp_path / "k")


@pytest.mark.covers("RE-03")
def test_no_key_is_written_over_and_nothing_is_left_where_one_half_cannot_be(tmp_path: Path) -> None:
    make_key(tmp_path / "k")
    kept = (tmp_path / "k").read_bytes()
    with pytest.raises(UsageError, match="k exists, and a key is never written over"):
        make_key(tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == kept
    (tmp_path / "other.pub").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"other\.pub exists"):
        make_key(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="cannot be written"):
        make_key(tmp_path / "no folder" / "k")


@pytest.mark.covers("RE-03")
def test_nothing_of_a_private_key_can_be_printed_or_pickled(tmp_path: Path) -> None:
    make_key(tmp_path / "k")
    key = load_private_key(tmp_path / "k")
    secret = "".join((tmp_path / "k").read_text().splitlines()[1:-1])
    assert secret not in f"{key!r} {key} {vars(key)!r}"
    with pytest.raises(TypeError, match="a private key is not pickled"):
        pickle.dumps(key)


@pytest.mark.covers("RE-03")
def test_a_private_key_is_made_so_that_nobody_else_reads_it_for_an_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    mask, write = os.umask(0), os.fdopen

    def opened(descriptor: int, mode: str) -> object:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, mode)

    monkeypatch.setattr("harness.signoff.signing.os.fdopen", opened)
    try:
        make_key(tmp_path / "k")
    finally:
        os.umask(mask)
    assert seen[0] == 0o600


def test_an_encrypted_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    made = make_key(tmp_path / "k", b"correct horse")
    assert b"ENCRYPTED" in (tmp_path / "k").read_bytes()
    assert load_private_key(tmp_path / "k", lambda: b"correct horse").public == made
    with pytest.raises(UsageError, match="the passphrase is not the right one") as refused:
        load_private_key(tmp_path / "k", lambda: b"battery staple")
    assert "battery" not in str(refused.value)
    with pytest.raises(UsageError, match=r"is encrypted. Give --passphrase-file, or set TRIGATE_KEY_PASSPHRASE"):
        load_private_key(tmp_path / "k")
    with pytest.raises(UsageError, match="the passphrase is longer than 1023 bytes"):
        make_key(tmp_path / "other", b"x" * 1024)
    with pytest.raises(UsageError, match="the passphrase is empty"):
        make_key(tmp_path / "other", b"")


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pass"
    path.write_bytes(b"correct horse\n")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="the passphrase is not used so"):
        read_secret(path, "the passphrase")


def test_what_is_no_key_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    make_key(tmp_path / "k")
    with pytest.raises(UsageError, match=r"is a private key; expected the public one. It is in k\.pub"):
        load_public_key(tmp_path / "k")
    with pytest.raises(UsageError, match="is a public key; expected the private key, which is in a file of its own"):
        load_private_key(tmp_path / "k.pub")
    with pytest.raises(
        UsageError, match=r"does not exist; expected the private key. Make a key with `trigate key new`"
    ):
        load_private_key(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot be read as the public key"):
        load_public_key(tmp_path)
    (tmp_path / "nonsense").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n")
    with pytest.raises(UsageError, match="is no public key"):
        load_public_key(tmp_path / "nonsense")
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "ssh").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    (tmp_path / "ssh").chmod(0o600)
    with pytest.raises(UsageError, match="is a key of OpenSSH; expected PKCS #8 PEM"):
        load_private_key(tmp_path / "ssh")
    with pytest.raises(UsageError, match="names no file"):
        make_key(Path())
    (tmp_path / "ec").write_bytes(pem)
    (tmp_path / "ec").chmod(0o600)
    with pytest.raises(UsageError, match="is no Ed25519 key"):
        load_private_key(tmp_path / "ec")


@pytest.mark.covers("RE-03")
def test_a_statement_comes_out_of_its_envelope_for_the_key_that_signed_it(tmp_path: Path) -> None:
    public = make_key(tmp_path / "k")
    sealed = seal(STATEMENT, load_private_key(tmp_path / "k"))
    opened = unseal(sealed, public)
    assert (opened.statement, opened.signer, opened.is_trusted) == (STATEMENT, public.id, True)
    assert not unseal(sealed, None).is_trusted
    assert json.loads(sealed)["payloadType"] == PAYLOAD_TYPE
    with pytest.raises(SignatureError, match="a foreign key"):
        unseal(sealed, make_key(tmp_path / "other"))


@pytest.mark.covers("RE-03")
def test_a_payload_that_says_a_thing_twice_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = make_key(tmp_path / "k")
    monkeypatch.setattr("harness.signoff.signing._payload", lambda _: b'{"subject":[],"subject":[1]}')
    sealed = seal(STATEMENT, load_private_key(tmp_path / "k"))
    monkeypatch.undo()
    with pytest.raises(SignatureError, match="not written as it was when it was signed"):
        unseal(sealed, public)


@pytest.mark.covers("RE-03")
def test_no_byte_of_an_envelope_can_be_changed(tmp_path: Path) -> None:
    public = make_key(tmp_path / "k")
    sealed = seal(STATEMENT, load_private_key(tmp_path / "k"))
    for at in range(len(sealed)):
        for bit in (1, 32):
            changed = bytearray(sealed)
            changed[at] ^= bit
            with pytest.raises(SignatureError):
                unseal(bytes(changed), public)
    for changed_length in (sealed[:-1], sealed + b"\n", b"", b"null", b'{"signatures": []}'):
        with pytest.raises(SignatureError):
            unseal(changed_length, public)
