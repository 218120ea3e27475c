"""containerd and a kubelet, in the namespaces of the process that starts them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import yaml

from tests.cluster.api import Api
from tests.cluster.binaries import built_kubelet
from tests.cluster.control_plane import API_SERVICE, POD_GATEWAY, ControlPlane, Daemon
from tests.cluster.node.names import Names
from tests.cluster.node.network import SUBNET, forward, serve_names
from tests.toolchain import run_go

NODE = "kubelet-0"
PAUSE = "localhost/pause:1"
CGROUPS = Path("/sys/fs/cgroup")
END_SECONDS = 60.0
CNI_PLUGINS = "/usr/lib/cni"  # of Debian's containernetworking-plugins
# What a kubelet sets for the whole machine; ours sets copies.
TUNED = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
KEYS = ("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")


class Node:
    """One node, after `isolate`: `start` it, then `load` images, then start the `kubelet`.

    Args:
        plane: Runs in the same namespaces.
        folder: For all that it writes; its name is also that of the pods' cgroup. A short path, as
            sockets are in it.
    """

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane, self._folder = plane, folder
        self._socket = folder / "containerd.sock"
        self.containerd = Daemon(
            "containerd", ["containerd", f"--config={folder}/containerd.toml"], plane.logs
        )
        self.kubelet = Daemon(
            "kubelet",
            [
                str(built_kubelet()),
                f"--config={folder}/kubelet.yaml",
                f"--kubeconfig={plane.kubeconfig}",
                f"--hostname-override={NODE}",
                f"--node-ip={POD_GATEWAY}",
                f"--root-dir={folder}/kubelet",
                f"--cert-dir={folder}/keys",
            ],
            plane.logs,
        )

    def start(self) -> None:
        """Return the network, the names and containerd."""
        self._connect()
        plugin = 'plugins."io.containerd.grpc.v1.cri"'
        (self._folder / "containerd.toml").write_text(
            f"""
            version = 2
            root = "{self._folder}/images"
            state = "{self._folder}/containers"
            [grpc]
            address = "{self._socket}"
            [{plugin}]
            sandbox_image = "{PAUSE}"
            restrict_oom_score_adj = true  # lowering it needs more than root has on some machines
            [{plugin}.cni]
            bin_dir = "{CNI_PLUGINS}"
            conf_dir = "{self._folder}/cni"
            [{plugin}.containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [{plugin}.containerd.runtimes.runc.options]
            SystemdCgroup = false
            """
        )
        self._configure_kubelet()
        self.containerd.start()
        self.containerd.wait_until(lambda: self._ctr("version").returncode == 0)
        self.load(pause_image(self._folder))

    def load(self, archive: Path) -> bool:
        """Import what `docker save` wrote; True, as it is done.

        Raises:
            RuntimeError: It is no such archive.
        """
        done = self._ctr("--namespace=k8s.io", "images", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"{archive} cannot be imported: {done.stderr.strip()}")
        return True

    def images(self) -> list[str]:
        """Return names of the imported images."""
        return self._ctr("--namespace=k8s.io", "images", "list", "--quiet").stdout.split()

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", f"--address={self._socket}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _connect(self) -> None:
        _run("ip link add switch type bridge")
        _run(f"ip addr add {POD_GATEWAY}/{SUBNET.prefixlen} dev switch")
        _run("ip link set switch up")
        _run(f"ip addr add {API_SERVICE}/32 dev lo")  # instead of a kube-proxy
        network = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "switch",
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{self._folder}/addresses",
                        "ranges": [[{"subnet": str(SUBNET), "gateway": POD_GATEWAY}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (self._folder / "cni").mkdir()
        (self._folder / "cni" / "pods.conflist").write_text(json.dumps(network))
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind((POD_GATEWAY, 53))
        door = socket.create_server((API_SERVICE, 443))
        resolve = Names(Api(self._plane.kubeconfig)).resolve
        threading.Thread(target=serve_names, args=[names, resolve], daemon=True).start()
        threading.Thread(target=forward, args=[door, self._plane.port], daemon=True).start()

    def _configure_kubelet(self) -> None:
        keys = self._folder / "keys"
        serving = self._plane.authority.sign("kubelet", addresses=(POD_GATEWAY,))
        certificate, key = serving.write(keys, "kubelet")
        authority, _ = self._plane.authority.pair.write(keys, "ca")
        resolver = self._folder / "resolv.conf"  # nothing outside
        resolver.write_text("")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": POD_GATEWAY,
            "authentication": {"x509": {"clientCAFile": str(authority)}},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._folder.name}",
            "clusterDNS": [POD_GATEWAY],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "makeIPTablesUtilChains": False,
            "oomScoreAdj": 0,
            "podLogsDir": f"{self._folder}/pods",
            "resolvConf": str(resolver),
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "volumePluginDir": f"{self._folder}/plugins",
        }
        (self._folder / "kubelet.yaml").write_text(yaml.safe_dump(config))


def isolate(folder: Path) -> None:
    """Before anything else: loopback works, and what a kubelet changes is ours alone.

    Args:
        folder: The node's, for copies of the machine's settings.
    """
    _run("ip link set lo up")
    _run("mount --make-rshared /")  # shared among us, not with the machine
    _run("mount -t tmpfs none /var/log")
    for name in (*TUNED, *KEYS):
        setting = Path("/proc/sys", name)
        copy = folder / "sysctl" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(setting.read_text())
        _run(f"mount --bind {copy} {setting}")
    for hierarchy in hierarchies():
        ours = hierarchy / folder.name
        ours.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / name).exists() and (ours / name).exists():
                (ours / name).write_text((hierarchy / name).read_text())


def hierarchies() -> list[Path]:
    """Return the machine's cgroup trees: one, or with version 1 one for each controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()]


def remove_cgroups(folder: Path) -> None:
    """Remove the cgroups that a node in `folder` leaves when it ends."""
    deadline = time.monotonic() + END_SECONDS
    for hierarchy in hierarchies():
        for cgroup, _, _ in os.walk(hierarchy / folder.name, topdown=False):
            while Path(cgroup).exists():
                try:
                    os.rmdir(cgroup)
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)


def pause_image(folder: Path) -> Path:
    """Build what holds a pod's namespaces, as `docker save` would write it."""
    program = folder / "pause"
    source = Path(__file__).with_name("pause.go")
    run_go("build", f"-o={program}", source, module=source.parent)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(program, "pause")
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535"},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    archive = folder / "pause.tar"
    with tarfile.open(archive, "w") as tar:
        for name, data in (
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
            ("layer.tar", layer.getvalue()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
