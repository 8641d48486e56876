"""The master key comes from where the settings say; whatever is wrong with it is said, and never the key."""

import base64
import os
import select
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest

from facesvc.config import GallerySettings
from facesvc.errors import ConfigError, DependencyError
from facesvc.gallery import printing
from facesvc.gallery.crypto import KEY_SIZE
from facesvc.gallery.keyring import KeySource
from facesvc.gallery.masterkey import Command, Credential, KeyFile, Variable, sources

KEY = bytes(range(200, 200 + KEY_SIZE))
FORMS = [
    KEY.hex(),
    KEY.hex().upper(),
    base64.b64encode(KEY).decode(),
    base64.urlsafe_b64encode(KEY).decode().rstrip("="),
]
WRONG = ["", "hunter2", KEY.hex()[:-2], KEY.hex() + "00", "g" * 64, base64.b64encode(KEY[:-1]).decode()]


def of(tmp_path: Path, key: str = "", previous_key: str = "") -> list[KeySource]:
    return sources(GallerySettings(path=tmp_path / "gallery.db", key=key, previous_key=previous_key))


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    """Its key is not made yet."""
    return KeyFile(tmp_path / "key" / "gallery.key")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """A program of Python lines, as the setting of a command."""

    def program(lines: str) -> str:
        path = tmp_path / "a program.py"
        path.write_text(lines)
        return f"command:{sys.executable} '{path}'"

    return program


def test_without_a_setting_it_is_the_file_beside_the_gallery(tmp_path: Path) -> None:
    [source] = of(tmp_path)
    assert source == KeyFile(tmp_path / "gallery.key")
    assert str(source) == f"the file {tmp_path}/gallery.key"
    [source] = sources(GallerySettings(path=tmp_path / "gallery.db", key_file=tmp_path / "else.key"))
    assert source == KeyFile(tmp_path / "else.key")


def test_a_key_is_made_when_it_is_first_needed_and_kept(file: KeyFile) -> None:
    assert file.read() is None
    assert not file.path.parent.exists()
    key = file.make()
    assert len(key) == KEY_SIZE
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert list(file.path.parent.iterdir()) == [file.path]
    assert (file.read(), file.make(), KeyFile(file.path).read()) == (key, key, key)


def test_two_files_never_have_the_same_key(tmp_path: Path) -> None:
    assert KeyFile(tmp_path / "one").make() != KeyFile(tmp_path / "two").make()


def test_those_who_make_a_key_at_once_end_up_with_the_same(file: KeyFile) -> None:
    together = Barrier(8)

    def make(_: int) -> bytes:
        together.wait()
        return file.make()

    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(make, range(8)))
    assert keys == {file.read()}
    assert list(file.path.parent.iterdir()) == [file.path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_could_read_is_refused(file: KeyFile, mode: int) -> None:
    file.make()
    file.path.chmod(mode)
    said = rf"{file.path} is open to others .*mode {mode:o}\); chmod 600 it"
    for use in (file.read, file.make):
        with pytest.raises(DependencyError, match=said) as refused:
            use()
        assert refused.value.reason == "KEY_EXPOSED"
    file.path.chmod(0o400)
    assert file.read()


@pytest.mark.parametrize(("size", "said"), [(0, "0"), (31, "31"), (33, "more"), (10_000, "more")])
def test_a_file_of_another_length_is_refused(file: KeyFile, size: int, said: str) -> None:
    file.path.parent.mkdir()
    file.path.touch(0o600)
    file.path.write_bytes(b"k" * size)
    with pytest.raises(DependencyError, match=rf"{file.path} must hold 32 bytes and holds {said}; restore") as refused:
        file.make()
    assert refused.value.reason == "KEY_DAMAGED"
    assert file.path.read_bytes() == b"k" * size


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in [(tmp_path, "Is a directory"), (tmp_path / "file" / "key", "(Not a directory|File exists)")]:
        with pytest.raises(DependencyError, match=rf"key file {path} cannot be used \({said}\)") as refused:
            KeyFile(path).make()
        assert refused.value.reason == "KEY_UNREADABLE"


def test_the_next_key_comes_first_until_it_has_taken_its_place(tmp_path: Path) -> None:
    [file] = of(tmp_path)
    assert isinstance(file, KeyFile)
    old, new = file.make(), file.next.make()
    assert [source.read() for source in of(tmp_path)] == [new, old]
    (tmp_path / f".{file.next.path.name}.left-over").write_bytes(new)
    file.exchange()
    file.exchange()
    assert [source.read() for source in of(tmp_path)] == [new]
    assert list(tmp_path.iterdir()) == [file.path]


def test_a_file_can_be_named_like_the_others(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.key"
    assert of(tmp_path, f"file:{path}", "env:OLD") == [KeyFile(path), Variable("OLD")]


@pytest.mark.parametrize("text", FORMS)
def test_a_variable_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    [source] = of(tmp_path, "env:FACESVC_TEST_KEY")
    assert source.read() is None
    monkeypatch.setenv("FACESVC_TEST_KEY", f" {text}\n")
    assert source.read() == KEY
    assert str(source) == "the variable FACESVC_TEST_KEY of the environment"


@pytest.mark.parametrize("content", [*(form.encode() for form in FORMS), KEY, FORMS[0].encode() + b"\n"])
def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    [source] = of(tmp_path, "credential:gallery.key")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert source.read() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert source.read() is None
    (tmp_path / "gallery.key").write_bytes(content)
    assert source.read() == KEY
    assert str(source) == "systemd's credential gallery.key"


@pytest.mark.parametrize("content", [*(form.encode() for form in FORMS), KEY])
def test_a_command_that_prints_it(tmp_path: Path, program: Callable[[str], str], content: bytes) -> None:
    [source] = of(
        tmp_path, program(f"import sys; sys.stdout.buffer.write({content!r}); print('hello', file=sys.stderr)")
    )
    assert source.read() == KEY
    assert str(source) == f"what {sys.executable} prints"


def test_a_command_is_run_once(tmp_path: Path, program: Callable[[str], str]) -> None:
    [source] = of(tmp_path, program(f"open({str(tmp_path / 'ran')!r}, 'a').write('!'); print({KEY.hex()!r})"))
    assert [source.read() for _ in range(3)] == [KEY] * 3
    assert (tmp_path / "ran").read_text() == "!"


def test_a_command_gets_its_words_as_they_are_and_no_shell(tmp_path: Path) -> None:
    script = "import sys; sys.exit('|'.join(sys.argv[1:]))"
    [source] = of(tmp_path, f'command:{sys.executable} -c "{script}" $HOME "a b" ";" \'*\'')
    with pytest.raises(DependencyError, match=r"failed with status 1: \$HOME\|a b\|;\|\*; check the command"):
        source.read()


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_key_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str], wrong: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("FACESVC_TEST_KEY", wrong or " ")
    (tmp_path / "name").write_text(wrong)
    for setting in ("env:FACESVC_TEST_KEY", "credential:name", program(f"print({wrong!r})")):
        [source] = of(tmp_path, setting)
        with pytest.raises(
            DependencyError, match=r"must hold 32 bytes.*, or 64 hexadecimal digits, and holds"
        ) as refused:
            source.read()
        assert refused.value.reason == "KEY_DAMAGED"
        assert refused.value.message.startswith(str(source))
        assert not wrong or wrong not in refused.value.message


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "import sys; print('SECRET'); sys.exit('the vault is\\nsealed')",
            "failed with status 1: the vault is sealed;",
        ),
        ("print('SECRET' * 1000)", "prints more than a key;"),
        ("import sys\nwhile True: sys.stdout.write('SECRET' * 1000)", "prints more than a key;"),
        ("import os; print('SECRET', flush=True); os.kill(os.getpid(), 9)", "failed with status -9;"),
        ("import sys; sys.stderr.write('x' * 100_000); sys.exit(2)", "failed with status 2: xxx"),
    ],
)
def test_a_command_that_fails_is_named_with_its_complaint(
    tmp_path: Path, program: Callable[[str], str], lines: str, said: str
) -> None:
    [source] = of(tmp_path, program(lines))
    with pytest.raises(DependencyError) as refused:
        source.read()
    assert refused.value.reason == "KEY_UNREADABLE"
    assert f"the master key cannot be had, for {sys.executable} {said}" in refused.value.message
    assert "SECRET" not in refused.value.message
    assert len(refused.value.message) < 5000


def test_a_command_that_does_not_end_is_ended_with_all_it_started() -> None:
    command = ("/bin/sh", "-c", "sleep 60 & echo $! >&2; wait")
    with pytest.raises(DependencyError, match=r"has not ended within 1 s: \d+;") as refused:
        printing.printed_by(command, 100, timeout_s=1)
    started = int(refused.value.message.split("within 1 s: ")[1].split(";")[0])
    with suppress(ProcessLookupError):  # gone already
        process = os.pidfd_open(started)
        assert select.select([process], [], [], 20)[0]  # readable at its end
        os.close(process)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    [source] = of(tmp_path, f"command:{tmp_path}/nowhere --now")
    with pytest.raises(DependencyError, match=rf"{tmp_path}/nowhere cannot be run \(No such file"):
        source.read()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("env:FACESVC_TEST_KEY", "there is no key in the variable FACESVC_TEST_KEY of the environment; make one, such"),
        ("credential:gallery", "hand it over with LoadCredentialEncrypted=gallery:FILE"),
        ("command:/bin/true", "there is no key in what /bin/true prints; make one, such as with `openssl rand"),
    ],
)
def test_only_a_file_of_ours_is_made(tmp_path: Path, setting: str, said: str) -> None:
    [source] = of(tmp_path, setting)
    with pytest.raises(DependencyError, match=said.replace("(", r"\(")) as refused:
        source.make()
    assert refused.value.reason == "KEY_MISSING"


@pytest.mark.parametrize(
    "setting",
    ["secret", "file:", "env:", "env:A B", "credential:../key", "credential:..", "command:", "command: ", "vault:x"],
)
def test_a_setting_that_says_nothing_is_refused_by_name(tmp_path: Path, setting: str) -> None:
    for names in ({"key": setting}, {"previous_key": setting}):
        [name] = names
        with pytest.raises(ConfigError, match=f"gallery.{name} is none of file:PATH, credential:NAME") as refused:
            of(tmp_path, **names)
        assert setting not in refused.value.message.split("is none of")[0]


@pytest.mark.parametrize("command", ["command:true", "command:/bin/sh 'open", "command:bin/true"])
def test_a_command_that_cannot_be_taken_apart_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(ConfigError, match=r"gallery.key: the command cannot be taken apart \("):
        of(tmp_path, command)


def test_the_kinds(tmp_path: Path) -> None:
    names = ("env:A", "credential:b", "command:/bin/true")
    assert [type(of(tmp_path, name)[0]) for name in names] == [Variable, Credential, Command]
    assert os.environ.get("A") is None
