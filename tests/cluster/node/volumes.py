"""Volumes of a pod as folders of this machine."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.api import Api, ApiError, Object


class Volumes:
    """Makes the folders that the containers of one pod mount.

    Args:
        api: For what volumes refer to.
        pod: Whose.
        folder: Of this pod; what is made here goes when the pod goes.
        field: A pod's field by its path, for the downward API.
    """

    def __init__(self, api: Api, pod: Object, folder: Path, field: Callable[[str], str]) -> None:
        self._api, self._pod, self._folder, self._field = api, pod, folder, field
        self._namespace = pod["metadata"]["namespace"]
        self._group = pod["spec"].get("securityContext", {}).get("fsGroup")
        self._paths = {
            volume["name"]: self._made(volume) for volume in pod["spec"].get("volumes") or []
        }

    def mounts(self, container: Object) -> list[tuple[str, str, bool]]:
        """Source, path inside and read-only of each mount."""
        mounts = []
        for mount in container.get("volumeMounts") or []:
            source = self._paths[mount["name"]]
            if mount.get("subPath"):
                source = source / mount["subPath"]
                if not source.exists():
                    source.mkdir(parents=True)
                    self._give(source)
            mounts.append((str(source), mount["mountPath"], bool(mount.get("readOnly"))))
        return sorted(mounts, key=lambda mount: mount[1])  # /data before /data/runs

    def _made(self, volume: Object) -> Path:
        if "hostPath" in volume:
            path = Path(volume["hostPath"]["path"])
            if volume["hostPath"].get("type") == "DirectoryOrCreate":
                path.mkdir(parents=True, exist_ok=True)
            return path
        if "persistentVolumeClaim" in volume:
            return self._claimed(volume["persistentVolumeClaim"]["claimName"])
        folder = self._folder / "volumes" / volume["name"]
        folder.mkdir(parents=True)
        for source in volume.get("projected", {}).get("sources", [volume]):
            for name, content in self._files(source).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        self._give(folder)
        return folder

    def _give(self, folder: Path) -> None:
        """Return the pod's group may write, and owns what is made inside."""
        if self._group is not None:
            os.chown(folder, -1, self._group)
        folder.chmod(0o2777)

    def _files(self, source: Object) -> dict[str, bytes]:
        if "configMap" in source:
            reference = source["configMap"]
            found = self._referred("configmaps", reference)
            files = {name: text.encode() for name, text in (found.get("data") or {}).items()}
        elif "secret" in source:
            reference = source["secret"]
            found = self._referred("secrets", reference)
            data = found.get("data") or {}
            files = {name: base64.b64decode(text) for name, text in data.items()}
        elif "serviceAccountToken" in source:
            return {source["serviceAccountToken"]["path"]: self._token(source)}
        elif "downwardAPI" in source:
            return {
                item["path"]: self._field(item["fieldRef"]["fieldPath"]).encode()
                for item in source["downwardAPI"]["items"]
            }
        else:
            return {}
        if reference.get("items"):
            return {item["path"]: files[item["key"]] for item in reference["items"]}
        return files

    def _referred(self, kind: str, reference: Object) -> Object:
        name = reference.get("name") or reference["secretName"]
        try:
            return self._api.get(f"/api/v1/namespaces/{self._namespace}/{kind}/{name}")
        except ApiError as error:
            if error.status == 404 and reference.get("optional"):
                return {}
            raise

    def _token(self, source: Object) -> bytes:
        account = self._pod["spec"].get("serviceAccountName", "default")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": source["serviceAccountToken"].get("expirationSeconds", 3600),
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": self._pod["metadata"]["name"],
                    "uid": self._pod["metadata"]["uid"],
                },
            },
        }
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
        token: str = self._api.create(path, request)["status"]["token"]
        return token.encode()

    def _claimed(self, name: str) -> Path:
        path = f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims/{name}"
        while not (volume := self._api.get(path)["spec"].get("volumeName")):
            time.sleep(0.2)
        spec = self._api.get(f"/api/v1/persistentvolumes/{volume}")["spec"]
        source = spec.get("hostPath") or spec["local"]
        return Path(source["path"])
