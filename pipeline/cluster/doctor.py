"""`mobilenet doctor`: one finding per check, each with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.cluster import render
from pipeline.cluster.api.gateway import Gateway, Object
from pipeline.cluster.backends import registry
from pipeline.cluster.backends.backend import Backend, Operator
from pipeline.cluster.spec import GPU_RESOURCE
from preprocessing import storage
from preprocessing.errors import PermanentError, RetryError

KUEUE = Operator(
    crd="clusterqueues.kueue.x-k8s.io",
    title="Kueue",
    purpose="Kueue: queues --queue and --all",
)
# Content of the TensorFlow 2.21 wheel (tf.sysconfig.get_build_info()): native code for these
# compute capabilities, each of which also runs on later minors of its major, and PTX, which the
# driver of newer GPUs compiles at the first start.
NATIVE_CAPABILITIES = ((6, 0), (7, 0), (8, 0), (8, 9))
PTX_CAPABILITY = (9, 0)
CUDA_VERSION = (12, 5)
MIN_DRIVER = 525  # CUDA 12 runs on any driver of its major (NVIDIA's minor version compatibility)
ACCELERATORS = {  # compute capability by the value of the label cloud.google.com/gke-accelerator
    "nvidia-tesla-p4": (6, 1),
    "nvidia-tesla-p100": (6, 0),
    "nvidia-tesla-v100": (7, 0),
    "nvidia-tesla-t4": (7, 5),
    "nvidia-tesla-a100": (8, 0),
    "nvidia-a100-80gb": (8, 0),
    "nvidia-l4": (8, 9),
    "nvidia-h100-80gb": (9, 0),
    "nvidia-h100-mega-80gb": (9, 0),
    "nvidia-h200-141gb": (9, 0),
    "nvidia-b200": (10, 0),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    wrong: bool
    text: str

    def line(self) -> str:
        """Return the finding as one line."""
        return f"{'WRONG' if self.wrong else 'ok   '}  {self.text}"


Check = Callable[[Gateway], Iterator[Finding]]


def examine(gateway: Gateway, overlay: str) -> list[Finding]:
    """Return the findings of all checks.

    Raises:
        RetryError: The cluster does not answer.
    """
    findings = [Finding(False, f"Kubernetes {gateway.version()} at {gateway.host}")]
    checks: list[tuple[str, Check]] = [
        ("operators", _operators),
        ("rights", _rights),
        ("platform", _platform),
        ("GPUs", _gpus),
        ("quota", _quota),
        ("images", _images),
    ]
    for name, check in checks:
        try:
            findings += check(gateway)
        except (PermanentError, RetryError) as error:
            findings.append(Finding(True, f"{name}: {error}"))
    findings += _storage(overlay, gateway.namespace)
    return findings


def _operators(gateway: Gateway) -> Iterator[Finding]:
    installed = {crd["metadata"]["name"]: crd for crd in gateway.find("CustomResourceDefinition")}
    for operator in operators():
        crd = installed.get(operator.crd)
        if crd is None:
            yield Finding(operator.required, f"{operator.crd} is not installed. {operator.purpose}")
            continue
        versions = ", ".join(
            version["name"] for version in crd["spec"]["versions"] if version["served"]
        )
        yield Finding(False, f"{operator.crd} {versions}. {operator.purpose}")
    for backend in registry.BACKENDS:
        if backend.operator is not None and backend.operator.crd in installed:
            yield from _operator_alive(gateway, backend, backend.operator)


def operators() -> list[Operator]:
    """Return all operators that a cluster may need."""
    return [*registry.operators(), KUEUE]


def _operator_alive(gateway: Gateway, backend: Backend, operator: Operator) -> Iterator[Finding]:
    """Yield a finding if the operator ignores a job; a new job gets a condition within moments."""
    if operator.remedy is None:
        return
    waiting = [
        job["metadata"]["name"]
        for job in gateway.find(backend.kind)
        if not job.get("status", {}).get("conditions")
    ]
    if waiting:
        yield Finding(True, operator.remedy.format(name=waiting[0]))


def _rights(gateway: Gateway) -> Iterator[Finding]:
    required = [
        backend.kind
        for backend in registry.BACKENDS
        if backend.operator is None or backend.operator.required
    ]
    needed = [
        *((verb, kind) for kind in required for verb in ("create", "patch")),
        ("create", "ConfigMap"),
        ("update", "ConfigMap"),
        ("list", "Pod"),
        ("list", "Event"),
    ]
    missing = [f"{verb} {kind}s" for verb, kind in needed if not gateway.allowed(verb, kind)]
    if missing:
        yield Finding(True, f"you may not {', '.join(missing)}; ask for the Role `launcher`")
    else:
        yield Finding(False, f"your rights in namespace {gateway.namespace}")


def _platform(gateway: Gateway) -> Iterator[Finding]:
    namespace = gateway.get("Namespace", gateway.namespace)
    if namespace is None or gateway.get("ServiceAccount", "pipeline") is None:
        yield Finding(
            True,
            f"the platform is not installed in namespace {gateway.namespace}: "
            "kubectl apply --server-side -k k8s/overlays/NAME/platform",
        )
        return
    level = namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
    yield Finding(level != "restricted", f"Pod Security of the namespace: {level or 'not set'}")


def _gpus(gateway: Gateway) -> Iterator[Finding]:
    nodes = [node for node in gateway.find("Node") if _allocatable(node)]
    if not nodes:
        yield Finding(False, "no GPU node now; an autoscaler may add some, and --gpus 0 needs none")
        return
    total = sum(map(_allocatable, nodes))
    yield Finding(False, f"{total} GPUs on {len(nodes)} nodes")
    for text in sorted(filter(None, set(map(_generation, nodes)))):
        yield Finding(True, text)


def _allocatable(node: Object) -> int:
    return int(node.get("status", {}).get("allocatable", {}).get(GPU_RESOURCE, 0))


def _generation(node: Object) -> str | None:
    """Return the problem of a node's GPU or driver with the wheel; None without one."""
    labels = node["metadata"].get("labels", {})
    driver = labels.get("nvidia.com/cuda.driver-version.major") or labels.get(
        "nvidia.com/cuda.driver.major"
    )
    if driver and int(driver) < MIN_DRIVER:
        return (
            f"driver {driver} on {node['metadata']['name']} is too old for CUDA "
            f"{'.'.join(map(str, CUDA_VERSION))}; {MIN_DRIVER} and later work"
        )
    return gpu_problem(capability_of(labels))


def capability_of(labels: dict[str, str]) -> tuple[int, int] | None:
    """Return a node's compute capability, from GPU feature discovery or GKE's label."""
    if major := labels.get("nvidia.com/gpu.compute.major"):
        return int(major), int(labels.get("nvidia.com/gpu.compute.minor", 0))
    return ACCELERATORS.get(labels.get("cloud.google.com/gke-accelerator", ""))


def gpu_problem(capability: tuple[int, int] | None) -> str | None:
    """Return the problem of this compute capability with the TensorFlow wheel; None without one."""
    if capability is None or any(
        capability[0] == native[0] and capability >= native for native in NATIVE_CAPABILITIES
    ):
        return None
    name = ".".join(map(str, capability))
    if capability >= PTX_CAPABILITY:
        return (
            f"GPUs of compute capability {name}: the TensorFlow wheel has no native code for "
            "them; the driver compiles for minutes at each start, unless you launch "
            "--with jit-cache"
        )
    return f"GPUs of compute capability {name} are too old for the TensorFlow wheel"


def _quota(gateway: Gateway) -> Iterator[Finding]:
    for quota in gateway.find("ResourceQuota"):
        hard = quota["spec"].get("hard", {}).get(f"requests.{GPU_RESOURCE}")
        if hard is not None:
            used = quota.get("status", {}).get("used", {}).get(f"requests.{GPU_RESOURCE}", "0")
            yield Finding(False, f"GPU quota: {used} of {hard} in use")


def _images(gateway: Gateway) -> Iterator[Finding]:
    from pipeline.cluster.status.observe import pod_from

    for pod in map(pod_from, gateway.find("Pod")):
        if pod.reason and pod.reason.startswith("image not pullable"):
            yield Finding(True, f"{pod.name}: {pod.reason}")


def _storage(overlay: str, namespace: str) -> Iterator[Finding]:
    """Yield a finding for each bucket of the overlay's settings: can it be read from here?"""
    try:
        docs = render.render(overlay, (), namespace)
    except PermanentError as error:
        yield Finding(True, str(error))
        return
    settings = next(doc["data"] for doc in docs if doc["kind"] == "ConfigMap")
    for name, path in settings.items():
        if not path.startswith("gs://"):
            continue
        try:
            storage.list_names(path)
        except Exception as error:  # gcsfs raises errors of many types
            yield Finding(True, f"{name} {path} cannot be read from here: {error}")
        else:
            yield Finding(False, f"{name} {path}")
