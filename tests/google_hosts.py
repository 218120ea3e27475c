"""Google's storage hosts as this machine plays them: a certificate, and TLS that shows it."""

from __future__ import annotations

import atexit
import functools
import shutil
import ssl
import tempfile
from pathlib import Path

from tests.cluster.certificates import Authority

TOKEN = "token-of-the-metadata-server"
HOSTS = ("www.googleapis.com", "storage.googleapis.com")


@functools.cache
def _files() -> tuple[Path, Path, Path]:
    """Return the certificate that clients trust, and the servers' own with its key."""
    folder = Path(tempfile.mkdtemp(prefix="google-hosts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    authority = Authority("storage.test")
    trusted, _ = authority.pair.write(folder, "authority")
    return trusted, *authority.sign("storage", dns_names=HOSTS).write(folder, "hosts")


def certificate() -> Path:
    """Return the file of the certificate that clients have to trust, made for this process."""
    return _files()[0]


@functools.cache
def server_context() -> ssl.SSLContext:
    """Return TLS that shows a certificate for `HOSTS`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_files()[1:])
    return context
