"""Die Modell-Registry bedienen: registrieren, freigeben, umsetzen, zurücknehmen, nachsehen.

Aufruf: python -m examples.model_registry.registry --tracking-uri URL BEFEHL …
"""

import argparse
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import joblib

from examples.experiment_tracking_mlflow import tracking
from examples.experiment_tracking_mlflow.tracking import TrackingError, mlflow, readable_errors
from examples.model_registry.loading import ModelVersion, UnusableError, digest, load, open_model
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

MODEL, CHAMPION = "price", "champion"
GRANTED, WITHDRAWN = "granted", "withdrawn"
LABEL = re.compile(r"\d+\.\d+\.\d+")
LINEAGE = ("git_commit", "git_dirty", "data_sha256")


class RegistryError(TrackingError):
    """Die Registry lehnt einen Schritt ab; verändert ist dann nichts."""


class Registry:
    """Ein registriertes Modell auf einem Tracking-Server und was mit ihm geschehen darf."""

    def __init__(self, uri: str, name: str = MODEL) -> None:
        mlflow.set_tracking_uri(uri)
        self.client, self.name = mlflow.MlflowClient(), name

    def version(self, number: str) -> ModelVersion:
        """Holt eine Version; eine unbekannte oder gelöschte ist ein Fehler."""
        with readable_errors():
            return self.client.get_model_version(self.name, number)

    def target(self, alias: str) -> ModelVersion | None:
        """Die Version, auf die ein Alias zeigt, oder nichts."""
        with readable_errors():
            aliases = self.client.get_registered_model(self.name).aliases
        return self.version(aliases[alias]) if alias in aliases else None

    def labelled(self, label: str) -> list[ModelVersion]:
        """Alle Versionen, deren Antworten dieses `model_version` nennen."""
        check_label(label)
        query = f"name = '{self.name}' and tags.model_version = '{label}'"
        with readable_errors():
            return list(self.client.search_model_versions(query))

    def check_new(self, label: str) -> None:
        """Zwei Modelle mit demselben Namen in der Antwort ließen sich nicht mehr trennen."""
        if self.labelled(label):
            raise RegistryError(f"Ein Modell {label} gibt es schon; eine neue Nummer wählen.")

    def tag(self, number: str, tags: dict[str, str]) -> None:
        """Schreibt Tags an eine Version, der Reihe nach."""
        with readable_errors():
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, number, key, value)

    def register(self, run_id: str, by: str, tags: dict[str, str]) -> str:
        """Macht aus dem Modell eines Laufs eine Version; gibt deren Nummer zurück."""
        with tempfile.TemporaryDirectory() as folder, readable_errors():
            run = self.client.get_run(run_id)
            label = run.data.tags.get("model_version", "")
            self.check_new(label)
            if run.outputs is None or not run.outputs.model_outputs:
                raise RegistryError("Der Lauf enthält kein Modell.")
            model_id = run.outputs.model_outputs[0].model_id
            source = f"models:/{model_id}"
            mlflow.artifacts.download_artifacts(source, dst_path=folder)
            _, price = open_model(Path(folder))
            own = {
                "model_version": label,
                "registered_by": by,
                "model_sha256": digest(Path(folder)),
                "example_price_usd": f"{price:.2f}",
            }
            if not self.client.search_registered_models(f"name = '{self.name}'"):
                self.client.create_registered_model(self.name)
            # Alle Tags in einem Aufruf: Eine Version ohne Prüfsumme gibt es so nie.
            return self.client.create_model_version(
                self.name, source, run_id, tags | own, model_id=model_id, await_creation_for=0
            ).version

    def approve(self, number: str, by: str, because: str, at: str) -> None:
        """Gibt eine Version frei, wenn jede Prüfung bestanden und der Prüfer ein anderer ist."""
        entry = self.version(number)
        failed = sorted(
            key for key, value in entry.tags.items() if key[:6] == "check." and value != "passed"
        )
        if failed:
            raise RegistryError(f"Nicht bestanden: {', '.join(failed)}.")
        load(entry)
        if by == entry.tags["registered_by"]:
            raise RegistryError(f"{by} hat registriert; freigeben muss jemand anderes.")
        if entry.tags.get("approval") == WITHDRAWN:
            raise RegistryError(f"Version {number} wurde zurückgezogen; eine neue registrieren.")
        # Zuletzt das, was gilt: Eine halbe Freigabe ist keine.
        who = {"approved_by": by, "approved_at": at, "approved_because": because}
        self.tag(number, who | {"approval": GRANTED})

    def promote(self, number: str, alias: str, by: str, at: str, expected: str | None) -> str:
        """Setzt einen Alias um; gibt zurück, worauf er vorher zeigte.

        `expected` nennt, was vorher gelten muss: So fällt auf, dass jemand schneller war.
        """
        entry, current = self.version(number), self.target(alias)
        before = current.version if current else "none"
        if expected is not None and before != expected:
            raise RegistryError(f"{alias} zeigt auf {before} und nicht auf {expected}.")
        if alias == CHAMPION and entry.tags.get("approval") != GRANTED:
            raise RegistryError(f"Version {number} ist nicht freigegeben.")
        if before != number:
            self.tag(number, {f"{alias}_by": by, f"{alias}_at": at, f"{alias}_before": before})
            with readable_errors():
                # Der einzige Schritt, der zählt, und er ist unteilbar.
                self.client.set_registered_model_alias(self.name, alias, number)
        return before

    def rollback(self, by: str, because: str, at: str) -> tuple[str, str]:
        """Setzt champion auf die Version davor und zieht die Freigabe der jetzigen zurück."""
        current = self.target(CHAMPION)
        if current is None:
            raise RegistryError("Es gibt keinen champion.")
        before = current.tags.get("champion_before", "none")
        if before == "none":
            raise RegistryError(f"Vor Version {current.version} gab es keinen champion.")
        if self.version(before).tags.get("approval") != GRANTED:
            raise RegistryError(f"Version {before} ist nicht mehr freigegeben.")
        with readable_errors():
            # Erst der Dienst, dann das Protokoll: Im Ernstfall zählt jede Sekunde.
            self.client.set_registered_model_alias(self.name, CHAMPION, before)
        why = {"withdrawn_by": by, "withdrawn_at": at, "withdrawn_because": because}
        self.tag(current.version, {"approval": WITHDRAWN} | why)
        return current.version, before

    def lineage(self, label: str) -> dict:
        """Führt von `model_version` in einer Antwort zurück zu Lauf, Daten und Commit."""
        found = self.labelled(label)
        if len(found) != 1:
            raise RegistryError(f"Zu {label} gibt es {len(found)} Versionen.")
        (entry,) = found
        with readable_errors():
            run = self.client.get_run(entry.run_id)
        return {
            "version": entry.version,
            "run_id": entry.run_id,
            "model_sha256": entry.tags["model_sha256"],
            **{name: run.data.tags.get(name, "unknown") for name in LINEAGE},
            "metrics": run.data.metrics,
            "approved_by": entry.tags.get("approved_by"),
            "approved_because": entry.tags.get("approved_because"),
        }

    def show(self) -> list[dict]:
        """Alle Versionen mit Alias und Freigabe, die älteste zuerst."""
        with readable_errors():
            found = list(self.client.search_model_versions(f"name = '{self.name}'"))
            aliases = self.client.get_registered_model(self.name).aliases
        return [
            {
                "version": entry.version,
                "model_version": entry.tags.get("model_version"),
                "aliases": sorted(a for a, number in aliases.items() if number == entry.version),
                "approval": entry.tags.get("approval", "none"),
            }
            for entry in sorted(found, key=lambda entry: int(entry.version))
        ]


def check_label(label: str) -> None:
    """Die Nummer eines Modells ist drei Zahlen; sie steht in Filtern und Antworten."""
    if not LABEL.fullmatch(label):
        raise RegistryError(f"„{label}“ ist keine Modellversion wie 1.0.0.")


def log_run(folder: Path, label: str, tags: dict, metrics: dict) -> str:
    """Legt ein fertig trainiertes Modell als Lauf ab; gibt dessen Kennung zurück."""
    metadata = load_metadata(folder)
    pipeline = joblib.load(folder / "price_model.joblib")
    # Die Pipeline trainiert, ohne zu messen; was ihr Gate maß, kommt mit `--metric`.
    known = {f"test_{name}": metadata[name] for name in ("mae_usd", "r2") if name in metadata}
    tracking.connect(mlflow.get_tracking_uri(), MODEL, create=True)
    with readable_errors(), mlflow.start_run(run_name=label) as run:
        origin = tracking.provenance(metadata["data_sha256"]) | {"model_version": label}
        mlflow.set_tags(origin | tags)
        mlflow.log_metrics(known | metrics)
        mlflow.log_text(tracking.environment(), "environment.txt")
        tracking.log_model(pipeline)
    return run.info.run_id


def pair(text: str) -> tuple[str, str]:
    """Liest `name=wert`."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"„{text}“ hat nicht die Form name=wert.")
    return name, value


def moment(text: str) -> str:
    """Liest einen Zeitpunkt nach ISO 8601."""
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"„{text}“ ist kein Zeitpunkt nach ISO 8601.") from None


def arguments() -> argparse.Namespace:
    """Die Befehlszeile."""
    parser = argparse.ArgumentParser(description="Die Modell-Registry bedienen.")
    parser.add_argument("--tracking-uri", required=True, help="Adresse des MLflow-Servers")
    parser.add_argument("--model", default=MODEL, help="Name des registrierten Modells")
    commands = parser.add_subparsers(dest="command", required=True)
    register = commands.add_parser("register", help="das Modell eines Ordners")
    register.add_argument("--model-dir", type=Path, default=ARTIFACTS)
    register.add_argument("--model-version", help="sonst die aus metadata.json")
    register.add_argument("--metric", type=pair, action="append", default=[])
    register.add_argument("--tag", type=pair, action="append", default=[])
    tag = commands.add_parser("tag", help="etwa das Ergebnis einer Prüfung: check.name=passed")
    tag.add_argument("tag", type=pair, nargs="+")
    approve = commands.add_parser("approve")
    promote = commands.add_parser("promote")
    promote.add_argument("--alias", default=CHAMPION)
    promote.add_argument("--expected", help="worauf der Alias bis jetzt zeigt, oder none")
    rollback = commands.add_parser("rollback")
    commands.add_parser("lineage").add_argument("model_version")
    commands.add_parser("show")
    for command in (tag, approve, promote):
        command.add_argument("--version", required=True, help="Nummer in der Registry")
    for command in (register, approve, promote, rollback):
        command.add_argument("--by", required=True, help="wer")
    for command in (approve, promote, rollback):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        command.add_argument("--at", type=moment, default=now, help="wann, sonst jetzt")
    for command in (approve, rollback):
        command.add_argument("--because", required=True, help="warum")
    return parser.parse_args()


def run(given: argparse.Namespace) -> object:
    """Führt einen Befehl aus."""
    registry = Registry(given.tracking_uri, given.model)
    match given.command:
        case "register":
            tags = dict(given.tag)
            metrics = {name: float(value) for name, value in given.metric}
            label = given.model_version or load_metadata(given.model_dir)["model_version"]
            registry.check_new(label)  # vor dem Lauf, sonst bliebe der übrig
            run_id = log_run(given.model_dir, label, tags, metrics)
            checks = {key: value for key, value in tags.items() if key[:6] == "check."}
            return {"version": registry.register(run_id, given.by, checks), "run_id": run_id}
        case "tag":
            if other := sorted(key for key, _ in given.tag if key[:6] != "check."):
                names = ", ".join(other)
                raise RegistryError(
                    f"Hier nur Ergebnisse von Prüfungen (`check.…`), nicht {names}."
                )
            registry.tag(given.version, dict(given.tag))
            return {"version": given.version} | dict(given.tag)
        case "approve":
            registry.approve(given.version, given.by, given.because, given.at)
            return {"version": given.version, "approval": GRANTED}
        case "promote":
            step = given.version, given.alias, given.by, given.at, given.expected
            return {"alias": given.alias, "from": registry.promote(*step), "to": given.version}
        case "rollback":
            bad, good = registry.rollback(given.by, given.because, given.at)
            return {"alias": CHAMPION, "from": bad, "to": good}
        case "lineage":
            return registry.lineage(given.model_version)
    return registry.show()


def main() -> int:
    """Nennt das Ergebnis als JSON; ein Fehler ist eine Zeile und der Exitcode 1."""
    given = arguments()
    try:
        return tracking.as_json(lambda: run(given))
    except (UnusableError, ModelMissingError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
