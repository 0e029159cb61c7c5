"""MLflows Teil: derselbe Stand als Lauf, mit Commit und Prüfsumme der Daten als Tags.

Aufruf: python -m examples.versioning_git_dvc.track PROJEKT VERSION …
Die Läufe stehen in mlflow.db neben dem Projekt.
"""

import json
import os
import sys
from pathlib import Path

from examples.versioning_git_dvc.provenance import ProvenanceError, trace
from examples.versioning_git_dvc.sealed import SealError

EXPERIMENT = "price"


def record(project: Path, versions: list[str]) -> list[dict]:
    """Schreibt je Version einen Lauf; sucht dann, was mit den Daten der ersten trainiert wurde."""
    origins = [trace(project, version) for version in versions]
    folder = project.resolve().parent
    # Vor dem Import: MLflow meldet sonst jeden Start nach Hause.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        mlflow.create_experiment(EXPERIMENT, artifact_location=(folder / "mlruns").as_uri())
    mlflow.set_experiment(EXPERIMENT)
    for version, origin in zip(versions, origins, strict=True):
        with mlflow.start_run(run_name=f"v{version}"):
            mlflow.log_params(origin["params"]["train"])
            mlflow.log_metrics(origin["metrics"])
            mlflow.set_tags({"git_commit": origin["commit"], "data_md5": origin["data_md5"]})
    wanted = f"tags.data_md5 = '{origins[0]['data_md5']}'"
    found = mlflow.search_runs(filter_string=wanted, output_format="list")
    return [
        {
            "run": run.info.run_name,
            "mae_usd": run.data.metrics["mae_usd"],
            "same_commit": run.data.tags["git_commit"] == origins[0]["commit"],
        }
        for run in found
    ]


def main() -> int:
    """Zeigt die gefundenen Läufe als JSON."""
    if len(sys.argv) < 3:
        print(
            "Aufruf: python -m examples.versioning_git_dvc.track PROJEKT VERSION …", file=sys.stderr
        )
        return 2
    try:
        print(json.dumps(record(Path(sys.argv[1]), sys.argv[2:])))
    except (ProvenanceError, SealError, OSError) as error:
        print(f"Fehler: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
