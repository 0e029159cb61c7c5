"""Stücklisten im Format CycloneDX schreiben: `make sbom`, nach _build/sbom/.

Je Lock entsteht eine aus dem Lock, je Image eine aus dem, was darin wirklich installiert ist:
Python, seine Pakete und die von Debian. Jede wird gegen das Schema geprüft.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from audit import ROOT, locks

FOLDER = ROOT / "_build" / "sbom"
VERSION = SchemaVersion.V1_6
# Was das Image enthält, sagt es selbst, ohne Netz und ohne Rechte.
RUN = ["docker", "run", "--rm", "--network", "none", "--entrypoint"]
# Auch, was die Basis neben der Umgebung mitbringt: pip und oft setuptools.
PYTHON = (
    "import importlib.metadata as m, sys, sysconfig; "
    "base = sysconfig.get_path('purelib', 'posix_prefix', vars={'base': sys.base_prefix}); "
    "[print(d.name, d.version) for d in m.distributions(path=[*sys.path, base])]"
)
# Den Interpreter übersetzt das offizielle Image selbst; Debian kennt ihn nicht.
INTERPRETER = "import platform; print('python', platform.python_version())"
DEBIAN = "--showformat=${Package} ${Version}\n"


def images() -> list[str]:
    """Die Images, die das Buch baut und die jeder Rechner mit Docker behält."""
    sys.path.insert(0, str(ROOT))
    from examples.classroom_hub import build as classroom
    from examples.compose_stack import registry
    from examples.docker_image import build

    return [build.TAG, registry.TAG, classroom.TAG]


def checked(content: str, what: str) -> str:
    """Gibt die Stückliste zurück, wenn sie dem Schema genügt und nicht leer ist."""
    problem = JsonStrictValidator(VERSION).validate_str(content)
    if problem is not None or '"components"' not in content:
        sys.exit(f"Die Stückliste zu {what} ist ungültig: {problem or 'kein Bestandteil'}")
    return content


def of_lock(lock: Path) -> str:
    """Die Stückliste eines Locks."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
    command += ["--output-format", "JSON", "--spec-version", "1.6", "--output-reproducible"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{lock} ließ sich nicht lesen: {done.stderr.strip()}")
    return checked(done.stdout, str(lock))


def packages(said: str, kind: str, namespace: str | None = None) -> list[Component]:
    """Bestandteile aus Zeilen „Name Version“."""
    found = []
    for line in sorted(set(said.splitlines())):
        name, version = line.split()
        purl = PackageURL(kind, namespace, name, version)
        found.append(
            Component(
                name=name,
                version=version,
                purl=purl,
                bom_ref=str(purl),
                type=ComponentType.LIBRARY,
            )
        )
    return found


def of_packages(name: str, python: str, debian: str, interpreter: str) -> str:
    """Die Stückliste eines Images aus den Listen seiner Pakete."""
    tag, _, version = name.partition(":")
    root = Component(name=tag, version=version, type=ComponentType.CONTAINER, bom_ref=name)
    parts = [*packages(python, "pypi"), *packages(debian, "deb", "debian")]
    bom = Bom(components=[*parts, *packages(interpreter, "generic")])
    bom.metadata.component = root
    bom.register_dependency(root, bom.components)
    return checked(make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(), name)


def ask(image: str, program: str, *arguments: str) -> str:
    """Führt ein Programm im Image aus und gibt zurück, was es sagt."""
    done = subprocess.run([*RUN, program, image, *arguments], capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{image}: {program} scheiterte: {done.stderr.strip()[:300]}")
    return done.stdout


def present(image: str) -> bool:
    """Liegt das Image auf diesem Rechner?"""
    inspect = ["docker", "image", "inspect", image]
    return (
        bool(shutil.which("docker")) and not subprocess.run(inspect, capture_output=True).returncode
    )


def main() -> None:
    """Schreibt alle Stücklisten oder die der genannten Images."""
    parser = argparse.ArgumentParser(description="Stücklisten schreiben.")
    parser.add_argument("images", nargs="*", help="Vorgabe: die Images des Buches, soweit da")
    options = parser.parse_args()
    wanted = options.images or images()
    absent = [image for image in wanted if not present(image)]
    if options.images and absent:
        sys.exit(f"Gibt es nicht: {', '.join(absent)} (Abhilfe: das Image bauen)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Wer Images nennt, will nur diese.
    for path in [] if options.images else locks():
        write("-".join(path.relative_to(ROOT).with_suffix("").parts), of_lock(path))
    for image in wanted:
        if image not in absent:
            python = ask(image, "python", "-c", PYTHON)
            interpreter = ask(image, "python", "-c", INTERPRETER)
            debian = ask(image, "dpkg-query", "--show", DEBIAN)
            name = image.replace("/", "-").replace(":", "-")
            write(f"image-{name}", of_packages(image, python, debian, interpreter))
    for image in absent:
        print(f"Ohne Stückliste, nicht gebaut: {image}")
    # In CI gibt es Docker: Dort ist ein fehlendes Image ein Fehler, keine Lücke.
    if absent and os.environ.get("CI"):
        sys.exit(1)


def write(name: str, content: str) -> None:
    """Legt eine Stückliste ab und nennt sie."""
    (FOLDER / f"{name}.json").write_text(content + "\n", encoding="utf-8")
    print(f"_build/sbom/{name}.json", flush=True)


if __name__ == "__main__":
    main()
