"""JSON schemas for kubeconform, which refuse unknown fields, of Kubernetes and of the operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.k8s import tools

BUILT_IN = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


def write(folder: Path, versions: tuple[str, ...], kinds: set[tuple[str, str]]) -> None:
    """Write `VERSION/KIND-GROUP-APIVERSION.json`.

    Args:
        folder: Folder to write into.
        versions: Versions of Kubernetes, for example `1.36.0`.
        kinds: Pairs of apiVersion and kind.
    """
    custom = _custom_schemas()
    for version in versions:
        definitions = json.loads(_read(version, "_definitions.json"))["$defs"]
        (folder / version).mkdir()
        for api_version, kind in kinds:
            group, _, number = api_version.rpartition("/")
            name = "-".join(filter(None, (kind.lower(), group.split(".")[0], number))) + ".json"
            schema = custom.get((group, number, kind))
            if schema is None:
                schema = _standalone(json.loads(_read(version, name)), definitions)
            (folder / version / name).write_text(json.dumps(schema))


def _read(version: str, name: str) -> str:
    return (BUILT_IN / f"v{version}-local-strict" / name).read_text()


def _standalone(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return the schema with every definition that it refers to inside."""
    needed: dict[str, Any] = {}

    def inside(part: Any) -> Any:
        if isinstance(part, list):
            return [inside(item) for item in part]
        if not isinstance(part, dict):
            return part
        if isinstance(reference := part.get("$ref"), str):
            name = reference.rpartition("/")[2]
            if name not in needed:
                needed[name] = True
                needed[name] = inside(definitions[name])
            return {"$ref": f"#/definitions/{name}"}
        return {key: inside(value) for key, value in part.items() if key != "$id"}

    return {**inside(schema), "definitions": needed}


def _custom_schemas() -> dict[tuple[str, str, str], Any]:
    """Return schemas of the operators' kinds, by group, version and kind."""
    found = {}
    for module in tools.CRDS:
        for path in tools.crd_folder(module).glob("*.yaml"):
            if not any(crd_name in path.name for crd_name in tools.CRD_NAMES):
                continue
            for crd in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader):
                if not crd or crd["kind"] != "CustomResourceDefinition":
                    continue
                spec = crd["spec"]
                for version in spec["versions"]:
                    key = (spec["group"], version["name"], spec["names"]["kind"])
                    found[key] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: Any) -> Any:
    """Return the schema with no other properties than those it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        free = found.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in found
        metadata = set(found["properties"]) >= {"apiVersion", "kind", "metadata"}
        if metadata:
            found["properties"]["metadata"] = {"type": "object"}
        if not free:
            found["additionalProperties"] = False
    return found
