"""Die Ressourcen hinter Azure Resource Manager: Workspace, Speicher, Modelle, Code, Umgebungen."""

from __future__ import annotations

import re
import threading
import uuid
from pathlib import Path

from examples.local_cloud.azure_access import Access, action_of, refusal
from examples.local_cloud.blobs import Blobs
from examples.local_cloud.service import App, Refusal, Request, Response, route

CLOUD, LOCATION, STORE = "LokaleCloud", "germanywestcentral", "azureml-blobstore"
GROUP = "/subscriptions/{subscription}/(?i:resourceGroups)/{group}"
PROVIDER = "Microsoft.MachineLearningServices"
WORKSPACE = GROUP + "/providers/" + PROVIDER + "/workspaces/{workspace}"
ASSET = WORKSPACE + "/(?P<kind>models|codes|environments)/{name}"
STORAGE = "/storage/pricestore.blob.localhost"
OTHERS = "/providers/(?P<kind>Microsoft[.](?!MachineLearning).*)"
# Was ein Workspace zum Leben braucht und neben ihm in der Ressourcengruppe steht.
DEPENDENT = {
    "storageAccount": "Microsoft.Storage/storageAccounts/pricestore",
    "keyVault": "Microsoft.KeyVault/vaults/pricevault",
    "applicationInsights": "Microsoft.Insights/components/priceinsights",
}


class Resources(App):
    """Eine Ressourcengruppe mit einem Workspace namens `price`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._access, self._blobs = Access(), Blobs()
        self._resources: dict[str, dict] = {}
        self._deleted: set[str] = set()
        self._lock = threading.RLock()

    def authorize(self, request: Request) -> None:
        """Prüft das Token und ob die Rolle die Aktion erlaubt, die zum Aufruf gehört."""
        if not request.path.startswith("/subscriptions/"):
            return  # Metadaten sind öffentlich; Speicher und Endpunkte prüfen selbst
        caller = self._access.caller(request)
        if "/operations/" not in request.path:
            self._access.check(caller, *action_of(request.method, request.path))

    def refused(self, refusal: Refusal) -> Response:
        """Die Absage in der Form von Azure."""
        code = refusal.code or "BadRequest"
        content = {"error": {"code": code, "message": refusal.message}}
        return Response(content, refusal.status, {"x-ms-error-code": code})

    @route("GET", "/metadata/endpoints")
    def clouds(self, request: Request) -> list[dict]:
        """Wo was ist; so findet das SDK eine Cloud, die nicht die öffentliche ist."""
        return [
            {
                "name": CLOUD,
                "portal": self.address,
                "resourceManager": self.address,
                "authentication": {"loginEndpoint": self.address, "audiences": [self.address]},
                "suffixes": {"storage": "localhost"},
            }
        ]

    # --- Ressourcengruppe und Workspace

    @route("GET", GROUP + "/resources")
    def list_everything(self, request: Request) -> dict:
        """Alles, was in der Ressourcengruppe steht; Modelle und Code gehören zum Workspace."""
        self._workspace(request, "price")
        found = [
            {name: item.get(name) for name in ("id", "name", "type", "location")}
            for item in list(self._resources.values())
            if item["tracked"]
        ]
        return {"value": sorted(found, key=lambda item: item["id"])}

    @route("GET", WORKSPACE)
    def show_workspace(self, request: Request) -> dict:
        """Der Workspace."""
        return self._find(self._workspace(request, request.args["workspace"]))

    @route("DELETE", WORKSPACE)
    def delete_workspace(self, request: Request) -> Response:
        """Löscht ihn mit allem, was darin liegt."""
        return self._delete(self._workspace(request, request.args["workspace"]))

    @route("GET", GROUP + OTHERS)
    def show_dependent(self, request: Request) -> dict:
        """Ein Speicherkonto, Tresor oder Protokoll neben dem Workspace."""
        self._workspace(request, "price")
        return self._find(request.path)

    @route("DELETE", GROUP + OTHERS)
    def delete_dependent(self, request: Request) -> Response:
        """Löscht es; mit dem Speicherkonto gehen die hochgeladenen Dateien."""
        if "/storageAccounts/" in request.path:
            self._blobs.clear()
        return self._delete(request.path)

    # --- Speicher

    @route("GET", WORKSPACE + "/datastores(?:/{name})?")
    def show_datastore(self, request: Request) -> dict:
        """Der eine Speicher des Workspace."""
        self._find(self._workspace(request, request.args["workspace"]))
        store = {
            "id": f"{request.path.rpartition('/datastores')[0]}/datastores/workspaceblobstore",
            "name": "workspaceblobstore",
            "properties": {
                "datastoreType": "AzureBlob",
                # Das SDK setzt daraus https://<Konto>.blob.<Endung> zusammen. Mit Adresse und
                # Pfad als Konto muss kein System den Namen <Konto>.blob.localhost auflösen.
                "accountName": f"{self.address.removeprefix('https://')}/storage/pricestore",
                "containerName": STORE,
                "protocol": "https",
                "endpoint": "localhost",
                "isDefault": True,
                "credentials": {"credentialsType": "Sas"},
            },
        }
        return store if request.args["name"] else {"value": [store]}

    @route("POST", WORKSPACE + "/datastores/{name}/(?i:listSecrets)")
    def show_secret(self, request: Request) -> dict:
        """Eine Signatur, mit der das SDK hochlädt."""
        return {"secretsType": "Sas", "sasToken": self._blobs.create(STORE)}

    @route("POST", ASSET + "/versions/{version}/startPendingUpload")
    def start_upload(self, request: Request) -> dict:
        """Ein eigener Container für diesen Upload."""
        container = str(uuid.uuid4())
        uri = f"{self.address}{STORAGE}/{container}"
        account = f"{request.path.partition('/providers/')[0]}/providers/"
        signed = {
            "credentialType": "SAS",
            "sasUri": f"{uri}?{self._blobs.create(container)}",
        }
        return {
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": uri,
                "storageAccountArmId": account + DEPENDENT["storageAccount"],
                "credential": signed,
            },
        }

    @route("GET", STORAGE + "/{container}(?:/(?P<name>.*))?")
    @route("PUT", STORAGE + "/{container}/(?P<name>.*)")
    def store(self, request: Request) -> Response:
        """Ein Aufruf von `azure-storage-blob`."""
        with self._lock:
            return self._blobs.answer(request)

    # --- Modelle, Code, Umgebungen

    @route("PUT", ASSET + "/versions/{version}")
    def register(self, request: Request) -> Response:
        """Meldet eine Version an; eine vorhandene lässt sich nicht durch anderes ersetzen."""
        self._find(self._workspace(request, request.args["workspace"]))
        properties = request.json()["properties"]
        kind = request.args["kind"]
        old = self._resources.get(request.path.lower())
        fixed = {"models": ("modelUri",), "codes": ("codeUri",)}
        fixed = fixed.get(kind, ("image", "condaFile", "inferenceConfig"))
        if old and any(old["properties"].get(name) != properties.get(name) for name in fixed):
            raise refusal("exists", name=f"{kind}/{request.args['name']}")
        if kind == "models":
            properties.setdefault("flavors", {})  # das SDK besteht darauf
        container = request.path.rpartition("/versions/")[0]
        latest = {"latestVersion": request.args["version"], "isArchived": False}
        self._put(container, latest)
        return self._put(request.path, properties)

    @route("GET", ASSET + "(?:/versions/{version})?")
    def show_asset(self, request: Request) -> dict:
        """Eine Version oder das, worunter die Versionen stehen."""
        return self._find(request.path)

    @route("GET", WORKSPACE + "/(?:models|codes|environments|onlineEndpoints)")
    @route("GET", ASSET + "/versions")
    @route("GET", WORKSPACE + "/onlineEndpoints/{name}/deployments")
    def list_children(self, request: Request) -> dict:
        """Was unmittelbar darunter steht."""
        if "/codes/" not in request.path:  # danach fragt das SDK, bevor es Code anmeldet
            self._find(request.path.rpartition("/")[0])
        start = request.path.lower() + "/"
        found = [
            item
            for key, item in list(self._resources.items())
            if key.startswith(start) and "/" not in key[len(start) :]
        ]
        return {"value": found}

    # --- Was alle brauchen

    def _workspace(self, request: Request, name: str) -> str:
        """Die Adresse des Workspace; beim ersten Blick in die Gruppe steht er schon da."""
        group = request.path.partition("/providers/")[0].removesuffix("/resources")
        group = re.sub("(?i)/resourcegroups/", "/resourceGroups/", group)
        place = f"{group}/providers/{PROVIDER}/workspaces/price"
        with self._lock:
            if not self._resources and place.lower() not in self._deleted:
                ids = {n: f"{group}/providers/{path}" for n, path in DEPENDENT.items()}
                for path in ids.values():
                    self._put(path, {}, tracked=True)
                self._put(place, ids | {"discoveryUrl": self.address}, tracked=True)
        return f"{group}/providers/{PROVIDER}/workspaces/{name}"

    def _put(
        self, path: str, properties: dict, more: dict | None = None, tracked: bool = False
    ) -> Response:
        provider, *parts = path.rpartition("/providers/")[2].split("/")
        key = path.lower()
        time = {"createdAt": "2026-01-01T00:00:00Z", "lastModifiedAt": "2026-01-01T00:00:00Z"}
        with self._lock:
            status = 200 if key in self._resources else 201
            self._resources[key] = {
                "id": path,
                "name": parts[-1],
                "type": "/".join([provider, *parts[::2]]),
                "location": LOCATION,
                "properties": properties,
                "systemData": time,
                "tracked": tracked,
                **(more or {}),
            }
            return Response(dict(self._resources[key]), status)

    def _find(self, path: str) -> dict:
        found = self._resources.get(path.lower())
        if found is None:
            name = path.rpartition("/providers/")[2]
            raise refusal("missing", name=name)
        return found

    def _asset(self, path: str) -> dict:
        return self._find(path.removeprefix("azureml:"))

    def _delete(self, path: str) -> Response:
        """Löscht die Ressource mit allem darunter."""
        self._find(path)
        start = f"{path}/".lower()
        with self._lock:
            gone = [key for key in self._resources if f"{key}/".startswith(start)]
            for key in gone:
                del self._resources[key]
            self._deleted.update(gone)
        self.removed(gone)
        return Response(b"", 200)

    def removed(self, keys: list[str]) -> None:
        """Beendet, was zu gelöschten Ressourcen gehörte."""
