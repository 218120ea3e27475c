"""Google's cloud as pods on GKE see it: the storage hosts, and the metadata server.

A pod looks up the real names, speaks TLS with the hosts, and gets its token from the metadata
server at the real address. Only what answers is ours: the store of the tests.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable

from tests.cluster.node.network import GATEWAY, Switch, forward
from tests.google_hosts import HOSTS, TOKEN

METADATA_HOST, METADATA_ADDRESS = "metadata.google.internal", "169.254.169.254"
ACCOUNT = "pipeline@project.iam.gserviceaccount.com"
ACCOUNT_PATH = "/computeMetadata/v1/instance/service-accounts/default/"
VALUES = {
    "/": "computeMetadata/",
    "/computeMetadata/v1/project/project-id": "project",
    "/computeMetadata/v1/universe/universe-domain": "googleapis.com",
    f"{ACCOUNT_PATH}email": ACCOUNT,
    ACCOUNT_PATH: json.dumps({"aliases": ["default"], "email": ACCOUNT, "scopes": []}),
    f"{ACCOUNT_PATH}token": json.dumps(
        {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
    ),
}


def open_doors(switch: Switch, store_port: int) -> None:
    """Let pods reach the store and the metadata server.

    Args:
        switch: Of the pods.
        store_port: On this machine's loopback: a proxy that plays the storage hosts.
    """
    hosts = switch.listen(GATEWAY, 443)
    greeting = f"CONNECT {HOSTS[0]}:443 HTTP/1.1\r\n\r\n".encode()
    threading.Thread(target=forward, args=[hosts, store_port, greeting], daemon=True).start()
    server = http.server.ThreadingHTTPServer(
        (METADATA_ADDRESS, 80), _Metadata, bind_and_activate=False
    )
    server.socket.close()
    server.socket = switch.listen(METADATA_ADDRESS, 80)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def with_google(resolve: Callable[[str], list[str] | None]) -> Callable[[str], list[str] | None]:
    """Return a resolver that knows Google's names, too."""
    addresses = {**{host: [GATEWAY] for host in HOSTS}, METADATA_HOST: [METADATA_ADDRESS]}
    return lambda name: addresses.get(name) or resolve(name)


class _Metadata(http.server.BaseHTTPRequestHandler):
    """The values that clients ask for, by path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and value are two small packets

    def do_GET(self) -> None:
        """Answer with a value; the header tells clients whose server this is."""
        path = self.path.partition("?")[0].replace(ACCOUNT, "default")
        value = VALUES.get(path)
        body = (value or "").encode()
        self.send_response_only(404 if value is None else 200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header(
            "Content-Type", "application/json" if body.startswith(b"{") else "application/text"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
