"""`traindyn data`: what is known and here, where it lies, whether it is what its manifest says."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from traindyn.run import cli


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with one small set."""
    np.savez(tmp_path / "tiny.npz", x=np.zeros((4, 2, 2), np.uint8), y=np.array([0, 1, 0, 1]))
    checksum = hashlib.sha256((tmp_path / "tiny.npz").read_bytes()).hexdigest()
    (tmp_path / "MANIFEST.toml").write_text(
        f'[[dataset]]\nname = "tiny"\nfile = "tiny.npz"\nsha256 = "{checksum}"\nclasses = ["a", "b"]\n'
    )
    monkeypatch.setenv("TRAINDYN_DATA", str(tmp_path))
    return tmp_path


def test_list_and_path_show_local_sets_and_those_of_packages(folder, capsys):
    assert cli.main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert str(folder / "tiny.npz") in said and "digits" in said and "package" in said
    assert cli.main(["data", "path", "tiny"]) == 0
    assert capsys.readouterr().out == f"{folder / 'tiny.npz'}\n"


def test_verify_passes_and_fails_with_the_file(folder, capsys):
    assert cli.main(["data", "verify"]) == 0
    assert "1 of 1 local sets" in capsys.readouterr().out
    with (folder / "tiny.npz").open("ab") as handle:
        handle.write(b"x")
    assert cli.main(["data", "verify"]) == 1
    assert "checksum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["path"], "data path needs the name"),
        (["fetch", "nothing"], "unknown data set 'nothing'"),
        (["path", "tny"], "did you mean 'tiny'"),
        (["delete"], "invalid choice"),
    ],
)
def test_a_mistake_is_one_line(folder, capsys, words, message):
    assert cli.main(["data", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("traindyn: ") and said.count("\n") == 1 and message in said


def test_a_corrupt_data_file_is_one_line_where_it_is_loaded(folder):
    from traindyn.errors import InputError
    from traindyn.learn import data

    (folder / "tiny.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="checksum") as caught:
        data.load("tiny")
    assert "\n" not in str(caught.value)
