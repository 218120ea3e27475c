"""Environment and command line of a container, as kubelet computes them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from tests.cluster.api import Api, ApiError, Object

REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def variables(
    api: Api, pod: Object, container: Object, image: dict[str, str], field: Callable[[str], str]
) -> dict[str, str]:
    """Return all variables of a container.

    Args:
        api: For ConfigMaps and Secrets.
        pod: The container's.
        container: Whose.
        image: What the image sets.
        field: A pod's field by its path.

    Raises:
        ApiError: A ConfigMap or Secret is not there.
        KeyError: It lacks a key.
    """
    found = dict(image)
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        kind, reference = _reference(source)
        prefix = source.get("prefix", "")
        data = _data(api, namespace, kind, reference)
        found |= {prefix + name: value for name, value in data.items()}
    for entry in container.get("env") or []:
        if "valueFrom" not in entry:
            found[entry["name"]] = expand(entry.get("value", ""), found)
        elif "fieldRef" in entry["valueFrom"]:
            found[entry["name"]] = field(entry["valueFrom"]["fieldRef"]["fieldPath"])
        else:
            kind, reference = _reference(entry["valueFrom"])
            data = _data(api, namespace, kind, reference)
            if reference["key"] in data or not reference.get("optional"):
                found[entry["name"]] = data[reference["key"]]
    return found


def expand(text: str, environment: dict[str, str]) -> str:
    """Replace `$(NAME)`; an unknown one stays, `$$` is a dollar."""
    return REFERENCE.sub(
        lambda match: "$" if match[1] is None else environment.get(match[1], match[0]),
        text,
    )


def _reference(source: Object) -> tuple[str, Object]:
    for name, value in source.items():
        if name.startswith("configMap"):
            return "configmaps", value
        if name.startswith("secret"):
            return "secrets", value
    raise ValueError(f"this node does not know {sorted(source)}")


def _data(api: Api, namespace: str, kind: str, reference: Object) -> dict[str, str]:
    try:
        found = api.get(f"/api/v1/namespaces/{namespace}/{kind}/{reference['name']}")
    except ApiError as error:
        if error.status == 404 and reference.get("optional"):
            return {}
        raise
    data: dict[str, str] = found.get("data") or {}
    if kind == "secrets":
        return {name: base64.b64decode(text).decode() for name, text in data.items()}
    return data
