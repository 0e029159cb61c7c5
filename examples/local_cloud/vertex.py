"""Google Agent Platform (früher Vertex AI) auf dem eigenen Rechner: Modelle, Endpunkte, Stapel.

Hinter jedem bereitgestellten Modell läuft der Prozess, der in seinem Image liefe, mit den
Umgebungsvariablen, die Google setzt.

Starten: python -m examples.local_cloud.vertex --port …
LOCAL_GOOGLE_TOKEN ist dabei das Token dessen, dem das Projekt gehört.
"""

from __future__ import annotations

import json
import random
import re
import threading
from pathlib import Path

from examples.local_cloud.google_cloud import LOCATION, needs, now, refusal
from examples.local_cloud.service import Fields, Refusal, Request, Response, route, run
from examples.local_cloud.vertex_models import (
    POLL_SECONDS,
    TYPE,
    Container,
    Models,
    ask,
    location,
    missing,
    resource,
    split,
)


class Vertex(Models):
    """Endpunkte und Stapelvorhersagen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._endpoints: dict[str, dict] = {}
        self._containers: dict[str, Container] = {}
        self._jobs: dict[str, dict] = {}
        self._ended: dict[str, threading.Event] = {}

    def users(self, model: str) -> list[str]:
        """Endpunkte, auf denen dieses Modell bereitgestellt ist."""
        return [
            endpoint["name"]
            for endpoint in self._endpoints.values()
            if any(entry["model"] == model for entry in deployed(endpoint))
        ]

    # --- Endpunkte

    @route("POST", f"{LOCATION}/endpoints")
    @needs("aiplatform.endpoints.create")
    def create_endpoint(self, request: Request) -> dict:
        """Legt einen leeren Endpunkt an; ohne Modell kostet er nichts."""
        name = f"{location(request)}/endpoints/{request.query.get('endpointId') or self.new_id()}"
        if name in self._endpoints:
            raise refusal("exists", kind="Endpoint", name=name)
        endpoint = dict(request.json()) | {"name": name, "createTime": now(), "updateTime": now()}
        self._endpoints[name] = endpoint
        return self.finished(name, "Endpoint", endpoint)

    @route("GET", f"{LOCATION}/endpoints")
    @needs("aiplatform.endpoints.list")
    def list_endpoints(self, request: Request) -> dict:
        """Nennt alle Endpunkte."""
        return {"endpoints": list(self._endpoints.values())}

    @route("GET", f"{LOCATION}/endpoints/{{endpoint}}")
    @needs("aiplatform.endpoints.get")
    def get_endpoint(self, request: Request) -> dict:
        """Beschreibt einen Endpunkt."""
        return self._endpoint(resource(request))

    @route("PATCH", f"{LOCATION}/endpoints/{{endpoint}}")
    @needs("aiplatform.endpoints.update")
    def update_endpoint(self, request: Request) -> dict:
        """Ändert einen Endpunkt, etwa die Aufteilung des Verkehrs."""
        endpoint, change = self._endpoint(resource(request)), request.json()
        # Das SDK schickt alles mit, was es vom Endpunkt weiß; gelten soll nur, was die Maske nennt.
        names = [name for name in request.query.get("updateMask", "").split(",") if name]
        with self._lock:
            if "trafficSplit" in names:
                check_split(change.get("trafficSplit", {}), endpoint)
            for name in names:
                endpoint[name] = change.get(name, {} if name == "trafficSplit" else "")
        return endpoint

    @route("DELETE", f"{LOCATION}/endpoints/{{endpoint}}")
    @needs("aiplatform.endpoints.delete")
    def delete_endpoint(self, request: Request) -> dict:
        """Entfernt einen Endpunkt, auf dem nichts mehr bereitgestellt ist."""
        endpoint = self._endpoint(resource(request))
        if deployed(endpoint):
            raise refusal("endpoint_in_use")
        del self._endpoints[endpoint["name"]]
        return self.finished(endpoint["name"])

    @route("POST", f"{LOCATION}/endpoints/(?P<endpoint>[^/:]+):deployModel")
    @needs("aiplatform.endpoints.deploy")
    def deploy_model(self, request: Request) -> dict:
        """Startet den Container einer Version; Verkehr bekommt er erst, wenn er bereit ist."""
        content = request.json()
        endpoint, wanted = self._endpoint(resource(request)), Fields(content["deployedModel"])
        model = self.version(wanted["model"])
        split_ = content.get("trafficSplit") or {}
        check_split(split_, endpoint, new=True)
        wanted |= {"id": self.new_id(), "model": model["name"], "createTime": now()}
        wanted |= {"modelVersionId": model["versionId"]}

        def deploy() -> dict:
            container = self.launch(model, {"AIP_ENDPOINT_ID": endpoint["name"].split("/")[-1]})
            with self._lock:
                try:
                    if self._endpoints.get(endpoint["name"]) is not endpoint:
                        raise missing("Endpoint", endpoint["name"])
                    # Seit dem Auftrag kann sich geändert haben, was dort läuft.
                    check_split(split_, endpoint, new=True)
                except Refusal:
                    container.child.stop()
                    raise
                self._containers[wanted["id"]] = container
                endpoint.setdefault("deployedModels", []).append(wanted)
                if split_:
                    endpoint["trafficSplit"] = {
                        wanted["id"] if key == "0" else key: share for key, share in split_.items()
                    }
            return {"@type": f"{TYPE}DeployModelResponse", "deployedModel": wanted}

        return self.later(endpoint["name"], deploy)

    @route("POST", f"{LOCATION}/endpoints/(?P<endpoint>[^/:]+):undeployModel")
    @needs("aiplatform.endpoints.undeploy")
    def undeploy_model(self, request: Request) -> dict:
        """Nimmt ein Modell vom Endpunkt; laufende Anfragen bekommen noch ihre Antwort."""
        endpoint, content = self._endpoint(resource(request)), request.json()
        wanted, split_ = content["deployedModelId"], content.get("trafficSplit") or {}
        with self._lock:
            if wanted not in self._containers:
                raise missing("DeployedModel", wanted)
            traffic = split_ or endpoint.get("trafficSplit", {})
            if traffic.get(wanted) and len(deployed(endpoint)) > 1:
                raise refusal("has_traffic", wanted=wanted)
            others = [d for d in deployed(endpoint) if d["id"] != wanted]
            left = {key: share for key, share in traffic.items() if key != wanted}
            check_split(left, {"deployedModels": others})
            container = self._containers.pop(wanted)
            endpoint |= {"deployedModels": others, "trafficSplit": left}
        threading.Thread(target=container.child.stop).start()
        return self.finished(endpoint["name"], "UndeployModelResponse", {})

    @route("POST", f"{LOCATION}/endpoints/(?P<endpoint>[^/:]+):predict")
    @needs("aiplatform.endpoints.predict")
    def predict(self, request: Request) -> Response | dict:
        """Lost ein Modell nach seinem Anteil aus und reicht ihm die Frage."""
        endpoint = self._endpoint(resource(request))
        with self._lock:
            traffic = endpoint.get("trafficSplit") or {}
            if not any(traffic.values()):
                raise refusal("no_models", name=endpoint["name"])
            (chosen,) = random.choices(list(traffic), list(traffic.values()))
            container = self._containers[chosen]
            (model,) = [d for d in deployed(endpoint) if d["id"] == chosen]
        answer = ask(container, request.body)
        version = self.version(f"{model['model']}@{model['modelVersionId']}")
        return answer | {
            "deployedModelId": chosen,
            "model": model["model"],
            "modelDisplayName": version.get("displayName", ""),
            "modelVersionId": model["modelVersionId"],
        }

    def _endpoint(self, name: str) -> dict:
        name = re.sub(r":\w+$", "", name)
        if name not in self._endpoints:
            raise missing("Endpoint", name)
        return self._endpoints[name]

    # --- Stapelvorhersage

    @route("POST", f"{LOCATION}/batchPredictionJobs")
    @needs("aiplatform.batchPredictionJobs.create")
    def create_job(self, request: Request) -> dict:
        """Nimmt einen Auftrag an; gerechnet wird danach."""
        job = request.json()
        name = f"{location(request)}/batchPredictionJobs/{self.new_id()}"
        model = self.version(job["model"])
        if job["inputConfig"]["instancesFormat"] != "jsonl":
            raise Refusal(501, "Nicht nachgebildet: `batchPredictionJobs` ohne `jsonl`")
        job |= {"name": name, "state": "JOB_STATE_RUNNING", "createTime": now()}
        job |= {"modelVersionId": model["versionId"], "updateTime": now()}
        self._jobs[name], self._ended[name] = job, threading.Event()
        threading.Thread(target=self._run_job, args=(job, model), daemon=True).start()
        return job

    @route("GET", f"{LOCATION}/batchPredictionJobs")
    @needs("aiplatform.batchPredictionJobs.list")
    def list_jobs(self, request: Request) -> dict:
        """Nennt alle Aufträge."""
        return {"batchPredictionJobs": list(self._jobs.values())}

    @route("GET", f"{LOCATION}/batchPredictionJobs/{{job}}")
    @needs("aiplatform.batchPredictionJobs.get")
    def get_job(self, request: Request) -> dict:
        """Sagt, wie weit ein Auftrag ist."""
        job = self._job(request)
        self._ended[job["name"]].wait(POLL_SECONDS)
        return job

    @route("DELETE", f"{LOCATION}/batchPredictionJobs/{{job}}")
    @needs("aiplatform.batchPredictionJobs.delete")
    def delete_job(self, request: Request) -> dict:
        """Entfernt einen beendeten Auftrag; was er schrieb, bleibt."""
        job = self._job(request)
        if not self._ended[job["name"]].is_set():
            raise refusal("still_running")
        del self._jobs[job["name"]]
        return self.finished(job["name"])

    def _job(self, request: Request) -> dict:
        if resource(request) not in self._jobs:
            raise missing("BatchPredictionJob", resource(request))
        return self._jobs[resource(request)]

    def _run_job(self, job: dict, model: dict) -> None:
        try:
            self._predict_all(job, model)
            job["state"] = "JOB_STATE_SUCCEEDED"
        except Refusal as refused:
            job |= {"state": "JOB_STATE_FAILED"}
            job |= {"error": {"code": 9, "message": refused.message}}
        except Exception as error:  # sonst wartete das SDK ewig
            job |= {"state": "JOB_STATE_FAILED", "error": {"code": 13, "message": repr(error)}}
        job |= {"endTime": now(), "updateTime": now()}
        self._ended[job["name"]].set()

    def _predict_all(self, job: dict, model: dict) -> None:
        """Startet einen Container, fragt ihn Gruppe für Gruppe und beendet ihn."""
        lines = []
        for uri in job["inputConfig"]["gcsSource"]["uris"]:
            lines += self.read(*split(uri)).decode().splitlines()
        try:
            instances = [json.loads(line) for line in lines if line.strip()]
        except ValueError:
            raise refusal("not_jsonl") from None
        size = int(job.get("manualBatchTuningParameters", {}).get("batchSize") or 64)
        results, errors = [], []
        container = self.launch(model, {})
        try:
            for start in range(0, len(instances), size):
                group = instances[start : start + size]
                try:
                    answer = ask(container, json.dumps({"instances": group}).encode())
                except Refusal as refused:
                    error = {"status": refused.code, "message": refused.message}
                    errors += [{"instance": instance, "error": error} for instance in group]
                    continue
                pairs = zip(group, answer["predictions"], strict=True)
                results += [{"instance": i, "prediction": p} for i, p in pairs]
        finally:
            container.child.stop()
        bucket, prefix = split(job["outputConfig"]["gcsDestination"]["outputUriPrefix"])
        folder = f"{prefix.rstrip('/')}/prediction-{model['displayName']}-{job['createTime'][:19]}"
        for name, content in (("results", results), ("errors_stats", errors)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
            self.write(bucket, f"{folder}/prediction.{name}-00000-of-00001", text.encode())
        job["outputInfo"] = {"gcsOutputDirectory": f"gs://{bucket}/{folder}"}
        job["completionStats"] = {
            "successfulCount": str(len(results)),
            "failedCount": str(len(errors)),
        }


def deployed(endpoint: dict) -> list[dict]:
    """Was auf einem Endpunkt bereitgestellt ist."""
    return endpoint.get("deployedModels", [])


def check_split(shares: dict, endpoint: dict, new: bool = False) -> None:
    """Anteile ergeben zusammen 100 und gehören zu Modellen, die es hier gibt."""
    known = {d["id"] for d in deployed(endpoint)} | ({"0"} if new else set())
    if strange := set(shares) - known:
        raise refusal("bad_ids", ids=sorted(strange))
    if shares and sum(shares.values()) != 100:
        raise refusal("bad_sum")


if __name__ == "__main__":
    run(Vertex)
