"""Das Archiv des Kurses: gleiche Dateien, gleiche Bytes; ohne Git kein Archiv und kein Abbruch."""

import os
import subprocess
import sys
import zipfile

import pytest

from texts import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from course import pack, tracked
from solutions import folded


@pytest.fixture
def project(tmp_path):
    """Ein Repository mit einer Datei, die Git kennt, und einer, die es nicht kennt."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Makefile").write_text("help:\n", encoding="utf-8")
    (folder / "start.sh").write_text("exit\n", encoding="utf-8")
    (folder / "start.sh").chmod(0o755)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "secret.env").write_text("KEY=1\n", encoding="utf-8")
    return folder


def test_archive_holds_what_git_knows_and_stays_the_same(project, tmp_path):
    archive, again = tmp_path / "out" / "a.zip", tmp_path / "b.zip"
    pack(project, archive)
    before = archive.stat().st_mtime_ns
    os.utime(project / "Makefile", (1e9, 1e9))
    pack(project, again)
    assert archive.read_bytes() == again.read_bytes()
    pack(project, archive)
    assert archive.stat().st_mtime_ns == before
    with zipfile.ZipFile(archive) as file:
        modes = {info.filename: info.external_attr >> 16 for info in file.infolist()}
    assert set(modes) == {"modelle-in-betrieb/Makefile", "modelle-in-betrieb/start.sh"}
    assert modes["modelle-in-betrieb/start.sh"] & 0o111


@pytest.mark.parametrize("path", [None, ""], ids=["kein Repository", "kein git"])
def test_without_git_there_is_no_archive(tmp_path, monkeypatch, path):
    (tmp_path / "Makefile").write_text("help:\n", encoding="utf-8")
    (tmp_path / "a.zip").write_bytes(b"alt")
    if path is not None:
        monkeypatch.setenv("PATH", path)
    assert tracked(tmp_path) == []
    pack(tmp_path, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_one_fold_per_exercise():
    tags = ["", "exercise", "solution", "solution", "", "check", "solution", ""]
    tags += ["exercise", "", "solution", "check", "", "versions"]
    assert folded([{tag} for tag in tags]) == [(2, 6), (10, 11)]
    assert folded([set()]) == []
