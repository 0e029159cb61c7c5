"""Was autolog ungefragt mitschreibt, gezählt an einem Training."""

import argparse
import logging
import sys

import mlflow
from sklearn import metrics

from examples.experiment_tracking_mlflow import tracking
from examples.price_model.data import load_diamonds, split
from examples.price_model.pipeline import build_pipeline

ROWS = 2000


def count(uri: str) -> dict:
    """Trainiert einmal mit autolog und liest nach, was danach im Lauf steht."""
    experiment = tracking.connect(uri, "autolog", create=True)
    X_train, X_test, y_train, y_test = split(load_diamonds()[0])
    pipeline = build_pipeline().set_params(model__max_iter=20)
    complaints: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())
    logging.getLogger("mlflow").addHandler(handler)
    with tracking.readable_errors():
        mlflow.sklearn.autolog()
        pipeline.fit(X_train[:ROWS], y_train[:ROWS])
        # Nur nachgesehen, nichts protokolliert: Auch diese Zahl steht danach im Lauf.
        metrics.mean_absolute_error(y_test, pipeline.predict(X_test))
        mlflow.sklearn.autolog(disable=True)
        (run,) = mlflow.MlflowClient().search_runs([experiment], max_results=1)
        files = mlflow.artifacts.list_artifacts(run_id=run.info.run_id)
        (model,) = run.outputs.model_outputs
        inside = mlflow.artifacts.list_artifacts(f"models:/{model.model_id}")
    return {
        "params": sorted(run.data.params),
        "metrics": sorted(run.data.metrics),
        "files": sorted(file.path for file in files),
        "model": sorted(file.path for file in inside),
        "datasets": [found.dataset.name for found in run.inputs.dataset_inputs],
        "warnings": complaints,
    }


def main() -> int:
    """Nennt das Mitgeschriebene als JSON."""
    parser = argparse.ArgumentParser(description="Was autolog mitschreibt")
    parser.add_argument("server")
    server = parser.parse_args().server
    return tracking.as_json(lambda: count(server))


if __name__ == "__main__":
    sys.exit(main())
