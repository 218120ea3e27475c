"""The Flink session cluster of k8s/components/flink-cluster, as pods of this machine.

Each pod is a network namespace with its own address; its containers are isolated processes with
the command, user, settings and file system that the manifests give them. The job manager and the
task managers run Flink's standalone programs, because there is no API server here where Flink
could start pods itself: `start_task_manager` does what Kubernetes would do.
"""

from __future__ import annotations

import contextlib
import copy
import json
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocessing.execution.flink.job_server import OPENED_PACKAGES
from tests import flink
from tests.cluster.node import image, network
from tests.cluster.node.containers import Container
from tests.emulator import Emulator
from tests.k8s.conftest import Manifest
from tests.k8s.flink import MAIN, deployment, pod_template, prepare_job
from tests.toolchain import java

START_SECONDS = 120.0  # bounds for a loaded machine
NAMES = ("flink-rest", "flink")  # the services that the operator makes for the job manager
# What the operator derives from the manifest's resources; these are for a small machine.
SIZES = {
    "taskmanager.numberOfTaskSlots": "16",  # two task managers have as many as `prepare` asks for
    "jobmanager.memory.process.size": "768m",
    "taskmanager.cpu.cores": "2",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.min": "96m",
    "taskmanager.memory.network.max": "96m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}
JAVA = "/opt/java/openjdk"  # as in Flink's image
JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
mobilenet:x:10001:10001::/home/mobilenet:/bin/sh
"""  # of the image `mobilenet-worker`


@dataclass
class Pod:
    """A pod with its network and its containers."""

    name: str
    connection: network.PodNetwork
    folder: Path
    containers: list[Container] = field(default_factory=list)

    def kill(self) -> None:
        """End all containers at once, without a warning, and take the network away."""
        for container in self.containers:
            container.signal(signal.SIGKILL)
        for container in self.containers:
            while container.code() is None:
                time.sleep(0.01)
        self.connection.close()

    def log(self) -> str:
        """Return the output of all containers."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*/log")))


class FlinkCluster:
    """A job manager, task managers, and pods that submit to them.

    Args:
        folder: For the pods' files.
        emulator: The bucket; every pod reaches it at its usual address.
    """

    def __init__(self, folder: Path, emulator: Emulator) -> None:
        self._folder, self._emulator = folder, emulator
        self.switch = network.Switch(self._resolve, emulator.port)
        self._pods: list[Pod] = []
        self.task_managers: list[Pod] = []
        self._job_manager: Pod | None = None
        self._deployment = deployment("gke")
        _, _, tag = self._deployment["spec"]["image"].partition(":")
        self._libraries = flink.cluster_libraries(tag.partition("-")[0])

    def start_job_manager(self) -> Pod:
        """Start the job manager, and wait until it answers."""
        pod = self._job_manager = self._pod("jobmanager")
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._start_flink(pod, "jobManager", entry)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers("/overview"):
            assert time.monotonic() < deadline, pod.log()
            assert pod.containers[0].code() is None, pod.log()
            time.sleep(0.1)
        return pod

    def start_task_manager(self) -> Pod:
        """Start a task manager with its worker pool, under a new name and address."""
        pod = self._pod(f"taskmanager-{len(self._pods)}")
        template = pod_template(self._deployment, "taskManager")["spec"]
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        address = ("-D", f"taskmanager.host={pod.connection.address}")
        identity = ("-D", f"taskmanager.resource-id={pod.name}")
        self._start_flink(pod, "taskManager", entry, *address, *identity)
        (worker,) = (each for each in template["containers"] if each["name"] == "beam-worker")
        self._start_ours(pod, template, worker)
        self.task_managers.append(pod)
        return pod

    def start_prepare(self, source: str, records: str, *flags: str) -> tuple[Pod, Container]:
        """Start the pod of the stage `prepare`; `flags` come before those for Beam."""
        template = prepare_job()["spec"]["template"]["spec"]
        container = copy.deepcopy(template["containers"][0])
        values = {"$(SOURCE)": source, "$(RECORDS)": records}
        arguments = container["args"]
        for number, argument in enumerate(arguments):
            name, equals, value = argument.partition("=")
            arguments[number] = name + equals + values.get(value, value)
        end = arguments.index("--")
        container["args"] = [*arguments[:end], *flags, *arguments[end:]]
        pod = self._pod(f"prepare-{len(self._pods)}")
        return pod, self._start_ours(pod, template, container)

    def get(self, path: str) -> Any:
        """Return what Flink's REST interface answers."""
        assert self._job_manager
        connection = self._job_manager.connection
        url = f"http://{connection.address}:8081{path}"
        with network.inside(connection.holder.pid, lambda: urllib.request.urlopen(url)) as answer:
            return json.load(answer)

    def close(self) -> None:
        """End all pods."""
        for pod in self._pods:
            if pod.connection.holder.poll() is None:
                pod.kill()

    def _answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (OSError, ValueError):
            return False
        return True

    def _resolve(self, name: str) -> list[str] | None:
        if self._job_manager and name in [f"{each}.mobilenet.svc.cluster.local" for each in NAMES]:
            return [self._job_manager.connection.address]
        return None

    def _pod(self, name: str) -> Pod:
        pod = Pod(name, self.switch.connect(), self._folder / name)
        (pod.folder / "etc").mkdir(parents=True)
        (pod.folder / "etc" / "resolv.conf").write_text(network.resolver_file("mobilenet"))
        hosts = network.hosts_file(name, pod.connection.address)
        (pod.folder / "etc" / "hosts").write_text(hosts)
        self._pods.append(pod)
        here = ("127.0.0.1", self._emulator.port)
        door = network.inside(pod.connection.holder.pid, lambda: socket.create_server(here))
        threading.Thread(
            target=network.forward, args=[door, self._emulator.port], daemon=True
        ).start()
        return pod

    def _start_flink(self, pod: Pod, role: str, entry: str, *arguments: str) -> None:
        template = pod_template(self._deployment, role)["spec"]
        (main,) = (each for each in template["containers"] if each["name"] == MAIN)
        settings = {
            **self._deployment["spec"]["flinkConfiguration"],
            **SIZES,
            "jobmanager.rpc.address": "flink",
            "jobmanager.bind-host": "0.0.0.0",
            "taskmanager.bind-host": "0.0.0.0",
            "rest.address": "flink-rest",
            "rest.bind-address": "0.0.0.0",
            "web.upload.dir": "/tmp/upload",
        }
        conf = pod.folder / "conf"
        conf.mkdir()
        lines = [f"{name}: {value}\n" for name, value in settings.items()]
        (conf / "flink-conf.yaml").write_text("".join(lines))
        opened = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENED_PACKAGES]
        command = [f"{JAVA}/bin/java", *JVM, *opened, "-cp", "/opt/flink/lib/*", entry]
        command += ["--configDir", "/opt/flink/conf", *arguments]
        mounts = [
            (str(self._libraries), "/opt/flink/lib", True),
            (str(conf), "/opt/flink/conf", True),
            (str(java().home), JAVA, True),
            *((str(path), str(path), True) for path in Path("/etc").glob("java-*")),
        ]
        self._start(pod, template, {**main, "command": command}, mounts, {})

    def _start_ours(self, pod: Pod, template: Manifest, container: Manifest) -> Container:
        """Start a container of the image `mobilenet-worker`."""
        assert container["image"].rpartition("/")[2].startswith("mobilenet-worker:")
        programs = pod.folder / "programs"
        image.write_program(programs)
        users = pod.folder / "etc" / "passwd"
        users.write_text(PASSWD)
        mounts = [
            (str(users), "/etc/passwd", True),
            *image.project_mounts(programs),
            (str(flink.job_server_jar()), "/opt/mobilenet/flink-job-server.jar", True),
            (str(flink.beam_boot()), "/opt/apache/beam/boot", True),
        ]
        environment = {
            **image.PYTHON_ENVIRONMENT,
            **self._emulator.clients_environment,
            "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
        }
        return self._start(pod, template, container, mounts, environment)

    def _start(
        self,
        pod: Pod,
        template: Manifest,
        container: Manifest,
        mounts: list[tuple[str, str, bool]],
        environment: dict[str, str],
    ) -> Container:
        scratch = pod.folder / container["name"]
        (scratch / "root").mkdir(parents=True)
        security = {**template["securityContext"], **container["securityContext"]}
        read_only = security.get("readOnlyRootFilesystem", False)
        own = {path for _, path, _ in mounts}
        volumes = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        described = {
            "network": pod.connection.holder.pid,
            "hostname": pod.name,
            "root": str(scratch / "root"),
            "read_only": read_only,
            "mounts": [
                *(mount for mount in image.system_mounts() if mount[1] not in own),
                *((str(pod.folder / "etc" / name), f"/etc/{name}", True) for name in ETC),
                *((self._volume(scratch, path), path, False) for path in volumes),
                *mounts,
            ],
            "command": [*container["command"], *container.get("args", [])],
            "environment": {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": "/",
                **environment,
                **{each["name"]: each["value"] for each in container.get("env", [])},
            },
            "folder": container.get("workingDir", "/"),
            "user": security["runAsUser"],
            "group": security["runAsGroup"],
            "groups": [security["fsGroup"]],
            "pid_file": str(scratch / "pid"),
        }
        started = Container(container, described, scratch, 0)
        pod.containers.append(started)
        return started

    @staticmethod
    def _volume(scratch: Path, path: str) -> str:
        volume = scratch / f"volume{path.replace('/', '-')}"
        volume.mkdir()
        volume.chmod(0o1777)
        return str(volume)


ETC = ("resolv.conf", "hosts")


@contextlib.contextmanager
def running_cluster(folder: Path, emulator: Emulator) -> Iterator[FlinkCluster]:
    """Run a job manager and two task managers."""
    cluster = FlinkCluster(folder, emulator)
    try:
        cluster.start_job_manager()
        for _ in range(2):
            cluster.start_task_manager()
        yield cluster
    finally:
        cluster.close()
