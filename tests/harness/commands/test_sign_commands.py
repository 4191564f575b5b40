"""``trigate key``, ``sign`` and ``verify``, as they are typed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from harness.cli import main
from harness.commands.common import seldom
from tests.harness.released_runs import a_release

PASSPHRASE = "TRIGATE_KEY_PASSPHRASE"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed") / "run"
    a_release(folder)
    return folder


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.covers("RE-03")
def test_from_a_key_to_a_verified_bundle(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, bundle = tmp_path / "release.key", tmp_path / "1.4"
    code, out, _ = typed(capsys, "key", "new", "--out", key)
    assert code == 0
    assert "not encrypted" in out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    _, shown, _ = typed(capsys, "key", "show", f"{key}.pub", "--json")
    code, out, err = typed(capsys, "sign", run, "--key", key, "--out", bundle)
    assert code == 0, out
    assert out.endswith("SIGNED OFF: 2 rows pass (2 on here[cpu]). No evidence about TensorRT.\n")
    assert f"copying {run}" in err
    code, out, _ = typed(capsys, "verify", bundle, "--key", f"{key}.pub")
    assert (code, out.splitlines()[-1]) == (0, f"VERIFIED: {bundle}")
    code, out, _ = typed(capsys, "verify", bundle, "--key", f"{key}.pub", "--json")
    told = json.loads(out)
    assert (told["exit_code"], told["signer"], told["findings"]) == (0, json.loads(shown)["id"], [])
    assert typed(capsys, "verify", bundle)[0] == 3
    secret = "".join(key.read_text().splitlines()[1:-1])
    assert not any(secret in path.read_text(errors="replace") for path in bundle.rglob("*") if path.is_file())


def test_a_passphrase_that_is_empty_or_asked_for_twice_makes_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE, "")  # as a secret that a CI server does not have
    code, _, err = typed(capsys, "key", "new", "--out", tmp_path / "k")
    assert (code, "is set, and empty" in err) == (2, True)
    with pytest.raises(SystemExit, match="2"):
        main(["key", "new", "--out", str(tmp_path / "k"), "--ask", "--passphrase-file", "word"])
    assert "not allowed with argument" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.covers("RE-03")
def test_an_encrypted_key_signs_one_file_with_its_passphrase_from_the_environment_or_a_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, word = tmp_path / "k", tmp_path / "word"
    word.write_text("correct horse\n")
    word.chmod(0o600)
    code, out, _ = typed(capsys, "key", "new", "--out", key, "--passphrase-file", word, "--json")
    assert (code, json.loads(out)["encrypted"]) == (0, True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, _, err = typed(capsys, "sign", run, "--key", key, "--out", tmp_path / "no.zip")
    assert code == 2
    assert "is encrypted. Give --passphrase-file, or set TRIGATE_KEY_PASSPHRASE" in err
    assert not (tmp_path / "no.zip").exists()
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    code, out, err = typed(capsys, "sign", run, "--key", key, "--out", tmp_path / "b.zip", "--quiet", "--json")
    told = json.loads(out)
    assert (code, told["bundle"], told["result"], err) == (0, str(tmp_path / "b.zip"), "PASSED", "")
    assert "horse" not in out
    code, out, _ = typed(capsys, "verify", tmp_path / "b.zip", "--key", f"{key}.pub")
    assert code == 0, out


@pytest.mark.covers("RE-03")
def test_a_refusal_tells_why_and_leaves_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed(capsys, "key", "new", "--out", tmp_path / "k")
    waivers = tmp_path / "w.toml"
    waivers.write_text('[[waiver]]\nmodel = "disk"\nowner = "Ada"\nreason = "so"\nuntil = 2020-01-01\n')
    code, out, _ = typed(capsys, "sign", run, "--key", tmp_path / "k", "--waivers", waivers, "--out", tmp_path / "b")
    assert code == 3
    assert "OPEN: the waiver of Ada for model disk ended on 2020-01-01" in out
    assert "nothing was signed" in out
    assert not (tmp_path / "b").exists()
    (tmp_path / "k").chmod(0o644)
    code, _, err = typed(capsys, "sign", run, "--key", tmp_path / "k", "--out", tmp_path / "b")
    assert code == 2
    assert f"Run: chmod 600 {tmp_path / 'k'}" in err


@pytest.mark.covers("RE-04")
def test_a_wrong_name_is_told_for_what_it_is(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, lost, text = tmp_path / "k", tmp_path / "lost", tmp_path / "accepted.toml"
    public = f"{key}.pub"
    typed(capsys, "key", "new", "--out", key)
    text.write_text("no TOML")
    for words, told in (
        (("verify", tmp_path, "--key", public), f"{tmp_path} is no bundle"),
        (("verify", lost, "--key", public), f"{lost} does not exist; expected a bundle"),
        (("verify", text, "--key", public), f"{text} is no .zip file: no bundle, or a damaged one"),
        (("verify", tmp_path, "--key", lost), f"{lost} does not exist; expected the public key. Get it from whoever"),
        (("sign", run, "--key", lost, "--out", tmp_path / "b"), "expected the private key. Make a key with"),
        (
            ("sign", run, "--key", public, "--out", tmp_path / "b"),
            f"{public} is a public key; expected the private key",
        ),
        (("sign", run, "--key", key, "--waivers", text, "--out", tmp_path / "b"), f"{text} is not TOML"),
    ):
        code, _, err = typed(capsys, *words)
        assert (code, told in err) == (2, True), err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("command", [["key"], ["key", "new"], ["sign"], ["verify"]])
def test_help_teaches_with_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    said = capsys.readouterr().out
    assert "--out" in said or "verify releases/1.4" in said


def test_how_far_it_is_is_said_where_it_takes_long_and_not_where_it_does_not() -> None:
    said: list[str] = []
    times = iter([0.0, 1.0, 2.5, 2.5, 3.0, 4.4, 4.6, 4.6])
    tell = seldom(said.append, clock=lambda: next(times))
    for words in ("too soon", "after two seconds", "again too soon", "still", "two seconds later"):
        tell(words)
    assert said == ["after two seconds", "two seconds later"]


def test_verify_tells_of_each_row_and_file_unless_it_is_to_be_quiet(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, bundle = tmp_path / "release.key", tmp_path / "1.4"
    typed(capsys, "key", "new", "--out", key)
    typed(capsys, "sign", run, "--key", key, "--out", bundle)
    monkeypatch.setattr("harness.commands.verify.seldom", lambda say: say)
    _, out, err = typed(capsys, "verify", bundle, "--key", f"{key}.pub")
    assert "rows judged again from their samples" in err
    assert "verdicts computed again" in err
    assert "files hashed" in err
    quiet = typed(capsys, "verify", bundle, "--key", f"{key}.pub", "--quiet")
    assert quiet[1:] == (out, "")
