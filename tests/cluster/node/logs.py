"""The part of the kubelet's API behind `kubectl logs`."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

POLL_SECONDS = 0.1


def serve_logs(pods: Path, keys: Path) -> int:
    """Serve `/containerLogs/NAMESPACE/POD/CONTAINER` over TLS on loopback; returns the port.

    Args:
        pods: Folder with a folder per pod, `NAMESPACE_POD_UID/CONTAINER/RESTART/log`.
        keys: Folder with `node.crt`, `node.key` and the authority `ca.crt` of the only client.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            match url.path.split("/"):
                case ["", "containerLogs", namespace, pod, container]:
                    found = sorted(
                        pods.glob(f"{namespace}_{pod}_*/{container}/*/log"),
                        key=lambda path: path.stat().st_mtime,
                    )
                case _:
                    found = []
            if not found:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._send_log(found[-1], query)

        def _send_log(self, path: Path, query: dict[str, str]) -> None:
            with open(path, "rb") as log:
                lines = log.readlines()
                if "tailLines" in query:
                    wanted = int(query["tailLines"])
                    lines = lines[-wanted:] if wanted else []
                self._send(lines, query)
                process = path.parent / "pid"
                while query.get("follow") == "true":
                    alive = process.exists() and Path(f"/proc/{process.read_text()}").exists()
                    self._send(log.readlines(), query)
                    if not alive:
                        break
                    time.sleep(POLL_SECONDS)
            self.wfile.write(b"0\r\n\r\n")

        def _send(self, lines: list[bytes], query: dict[str, str]) -> None:
            if query.get("timestamps") != "true":
                lines = [line.partition(b" ")[2] for line in lines]
            if data := b"".join(lines):
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "node.crt", keys / "node.key")
    context.load_verify_locations(keys / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port: int = server.server_address[1]
    return port
