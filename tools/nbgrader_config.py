"""Einstellungen des Kurses; `make course` kopiert sie nach _build/course."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Der Kurs steht in _build/course des Projekts.
NOTEBOOKS = HERE.parent.parent / "notebooks"

# nbgrader ruft `alembic` über den Suchpfad auf, auch wenn die Umgebung nicht aktiviert ist.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# Kapitel mit eigener Umgebung nennen deren Kernel, und der steht nur dort.
KERNELS = NOTEBOOKS.parent / ".environments" / "share" / "jupyter"
os.environ.setdefault("JUPYTER_PATH", str(KERNELS))

c = get_config()  # noqa: F821 – das gibt es, wo nbgrader diese Datei liest
c.CourseDirectory.root = str(HERE)
c.CourseDirectory.course_id = "modelle-in-betrieb"
# So benennt Moodle Abgaben; die Nummer darin steht für die Person.
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\][^/\\]*_(?P<student_id>\d+)_assignsubmission_file_?[/\\]?(?P<file_id>\w+)"
)
# Der Platzhalter des Buches genügt; nbgrader soll keinen zweiten anhängen.
c.ClearSolutions.code_stub = {"python": ""}
# Ein Kapitel startet Dienste und liest Beispiele: Es läuft, wo auch das Original läuft.
START = f"import os, sys; os.chdir({str(NOTEBOOKS)!r}); sys.path.insert(0, os.getcwd())"
c.Execute.extra_arguments = [
    "--HistoryManager.hist_file=:memory:",
    f"--IPKernelApp.exec_lines={START}",
]
# Die Vorgabe von 30 s genügt einem Dienst beim ersten Start nicht.
c.Execute.timeout = 120
