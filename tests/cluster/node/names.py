"""The answers of the cluster's DNS: Services and the pods behind headless ones."""

from __future__ import annotations

from collections import defaultdict

from tests.cluster.api import Api, Informer, Object

DOMAIN = "svc.cluster.local"


class Names:
    """Addresses by name, from the EndpointSlices that the real controllers write.

    As in CoreDNS, a pod that is not ready has no name unless its Service publishes it. Services
    with a cluster address lead straight to their pods.
    """

    def __init__(self, api: Api) -> None:
        self._slices = Informer(api, "/apis/discovery.k8s.io/v1/endpointslices")
        self._services = Informer(api, "/api/v1/services")

    def resolve(self, name: str) -> list[str] | None:
        """Addresses of a fully qualified name; None if there is no such name."""
        table: dict[str, list[str]] = defaultdict(list)
        for service in list(self._services.objects.values()):
            table[_name(service, service["metadata"]["name"])]  # exists, perhaps without address
        for part in list(self._slices.objects.values()):
            service_name = part["metadata"].get("labels", {}).get("kubernetes.io/service-name")
            for endpoint in part.get("endpoints") or []:
                if not service_name or not endpoint.get("conditions", {}).get("ready"):
                    continue
                name_of_service = _name(part, service_name)
                table[name_of_service] += endpoint["addresses"]
                if endpoint.get("hostname"):
                    table[f"{endpoint['hostname']}.{name_of_service}"] += endpoint["addresses"]
        return table.get(name)


def _name(item: Object, service: str) -> str:
    return f"{service}.{item['metadata']['namespace']}.{DOMAIN}"
