"""Every overlay with every component is valid and locked down, and runs commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions

from pipeline.cli.entry_point import parse
from pipeline.cluster import render
from pipeline.cluster.backends import registry
from preprocessing.execution.flink import job_server
from tests.k8s import flink, schemas, tools
from tests.k8s.conftest import CASES, JOB_COMPONENTS, OVERLAYS, ROOT, Manifest, built

KUBERNETES_VERSIONS = ("1.31.0", "1.33.0", "1.35.0", "1.36.0")
NO_SCHEMA = {"FlinkDeployment"}  # its definition is in no Go module

every_case = pytest.mark.parametrize(("overlay", "half", "component"), CASES)


def pod_template(doc: Manifest) -> Manifest | None:
    """Return the pod template of anything that has one."""
    if doc["kind"] in registry.kinds():
        return render.pod_template(doc)
    if doc["kind"] in ("Deployment", "StatefulSet"):
        template: Manifest = doc["spec"]["template"]
        return template
    return None


def shadow(doc: Manifest) -> Manifest:
    """Return a Job with the pods of a TFJob, which linters do not know."""
    template = render.pod_template(doc)
    assert template is not None
    spec = {**template["spec"], "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**doc["metadata"], "name": f"{doc['metadata']['name']}-pods"},
        "spec": {
            "ttlSecondsAfterFinished": 1,
            "template": {"metadata": template["metadata"], "spec": spec},
        },
    }


@pytest.fixture(scope="session")
def schema_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return schemas of every kind that any case has."""
    folder = tmp_path_factory.mktemp("schemas")
    kinds = {(doc["apiVersion"], doc["kind"]) for case in CASES for doc in built(*case)}
    kinds = {kind for kind in kinds if kind[1] not in NO_SCHEMA}
    schemas.write(folder, KUBERNETES_VERSIONS, kinds)
    return folder


def check(docs: list[Manifest], version: str, schema_folder: Path, tmp_path: Path) -> str:
    """Return kubeconform's report on the documents."""
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(docs))
    done = subprocess.run(
        [
            str(tools.program("kubeconform")),
            "-strict",
            "-summary",
            f"-kubernetes-version={version}",
            f"-schema-location={schema_folder}/{version}/"
            "{{.ResourceKind}}{{.KindSuffix}}.json",
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@every_case
@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubeconform_finds_nothing(
    overlay: str, half: str, component: str, version: str, schema_folder: Path, tmp_path: Path
) -> None:
    docs = [doc for doc in built(overlay, half, component) if doc["kind"] not in NO_SCHEMA]
    docs += [shadow(doc) for doc in docs if doc["kind"] == "TFJob"]
    assert f"Valid: {len(docs)}, " in check(docs, version, schema_folder, tmp_path)


def test_kubeconform_would_find_a_typo(schema_folder: Path, tmp_path: Path) -> None:
    for kind, spoil in (
        ("TFJob", lambda doc: doc["spec"]["runPolicy"].update(cleanPodPolice="All")),
        ("Job", lambda doc: doc["spec"].update(backofLimit=1)),
    ):
        doc = next(doc for doc in built("local", "jobs", "") if doc["kind"] == kind)
        doc = json.loads(json.dumps(doc))
        spoil(doc)
        with pytest.raises(AssertionError, match=r"cleanPodPolice|backofLimit"):
            check([doc], "1.36.0", schema_folder, tmp_path)


# What kube-score wants and we do not, each for a reason.
NOT_WANTED = {
    "networkpolicy-targets-pod": "the pods of the stages are in the other half",
    "deployment-strategy": "Recreate, for the same reason as one replica",
    "statefulset-has-host-podantiaffinity": "data workers may share a node",
    "pod-networkpolicy": "the policies of the platform are in the other half",
    "container-security-context-user-group-id": "the pod's security context sets them",
    "container-image-pull-policy": "tags are immutable; Always would need the registry to be up",
    "deployment-has-poddisruptionbudget": "one replica each; a drain may move them",
    "deployment-replicas": "one writer of one database, one supervisor at a time",
    "statefulset-has-poddisruptionbudget": "as Deployments",
    "pod-probes-identical": "both are a connection to the port, at different paces",
    "pod-probes": "stages end by themselves; the supervisor serves nothing",
    "container-resources": "CPU has no limit on purpose: a throttled stage only takes longer",
    "container-ephemeral-storage-request-and-limit": "servers write to a bounded emptyDir only",
}


@every_case
def test_kube_score_finds_nothing_critical(
    overlay: str, half: str, component: str, tmp_path: Path
) -> None:
    docs = list(built(overlay, half, component))
    docs += [shadow(doc) for doc in docs if doc["kind"] == "TFJob"]
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(docs))
    ignored = [f"--ignore-test={test}" for test in NOT_WANTED]
    done = subprocess.run(
        [str(tools.program("kube-score")), "score", "-o=json", *ignored, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [
        f"{scored['object_name']}: {check['check']['id']}: {comment['summary']}"
        for scored in json.loads(done.stdout)
        for check in scored["checks"]
        for comment in check["comments"] or []
        if check["grade"] <= 5 and not check["skipped"]
    ]
    assert not found


@every_case
def test_every_pod_is_locked_down(overlay: str, half: str, component: str) -> None:
    """The settings are those of Pod Security "restricted", and more."""
    seen = 0
    for doc in built(overlay, half, component):
        template = pod_template(doc)
        if template is None:
            continue
        seen += 1
        spec, name = template["spec"], f"{doc['kind']} {doc['metadata']['name']}"
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is (name == "Deployment supervisor"), name
        assert spec["serviceAccountName"] in ("pipeline", "supervisor"), name
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(forbidden), name
        for volume in spec["volumes"]:
            assert "hostPath" not in volume, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert not container["image"].endswith(":latest"), name
            assert ":" in container["image"].rpartition("/")[2], name
    assert seen


def expanded(argument: str, values: dict[str, str]) -> str:
    """Return an argument as the kubelet expands it."""
    return re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], argument)


@every_case
def test_every_command_line_is_one_of_ours(overlay: str, half: str, component: str) -> None:
    docs = built(overlay, half, component)
    (settings,) = (doc for doc in docs if doc["kind"] == "ConfigMap")
    commands = set()
    for doc in docs:
        template = pod_template(doc)
        for container in template["spec"]["containers"] if template else []:
            if container.get("command") != ["mobilenet"]:
                continue
            values = dict(settings["data"])
            values |= {variable["name"]: variable.get("value", "") for variable in container["env"]}
            arguments = [expanded(argument, values) for argument in container["args"]]
            parsed = parse(arguments)
            commands.add(parsed.command)
    stages = {"prepare", "train", "evaluate", "export", "publish"}
    servers = {"watch", "dashboard"}
    if component == "data-service-servers":
        servers.add("data-service")
    assert commands == (stages if half == "jobs" else servers)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_flinks_workers_run_the_image_that_has_beams_entry_point(overlay: str) -> None:
    docs = built(overlay, "platform", "flink-cluster")
    (flink,) = (doc for doc in docs if doc["kind"] == "FlinkDeployment")
    containers = flink["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    (worker,) = (container for container in containers if container["name"] == "beam-worker")
    assert worker["image"].rpartition("/")[2] == "mobilenet-worker:0.1.0"
    # What the namespace demands of every container; the pod's part is in Flink's own template.
    assert worker["securityContext"]["allowPrivilegeEscalation"] is False
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    stage = (ROOT.parent / "Dockerfile").read_text().partition(" AS worker\n")[2]
    assert f"ENTRYPOINT {json.dumps(worker['command'])}" in stage.partition("\nFROM ")[0]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("role", flink.ROLES)
def test_flinks_pods_are_locked_down(overlay: str, role: str) -> None:
    """Pod Security "restricted" refuses a pod in which one container lacks one of these."""
    template = flink.pod_template(flink.deployment(overlay), role)
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
        if container["name"] != flink.MAIN:  # Flink's own entry point writes its settings
            assert context["readOnlyRootFilesystem"] is True
            assert {mount["name"] for mount in container["volumeMounts"]} <= {
                volume["name"] for volume in spec["volumes"] if "emptyDir" in volume
            }
        assert ":" in container["image"].rpartition("/")[2]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_job_manager_may_start_pods(overlay: str) -> None:
    spec = flink.deployment(overlay)["spec"]
    assert spec["serviceAccount"] == "flink"
    settings = spec["flinkConfiguration"]
    assert settings["kubernetes.taskmanager.service-account"] == "pipeline"
    workers = flink.pod_template(flink.deployment(overlay), "taskManager")
    assert workers["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_versions_of_flink_and_beam_agree(overlay: str) -> None:
    """The cluster, the jar that is submitted to it, and the flag that names the version."""
    spec = flink.deployment(overlay)["spec"]
    image = re.fullmatch(r"flink:(\d+\.\d+)\.\d+-java17@sha256:\w{64}", spec["image"])
    assert image
    minor = image[1]
    assert spec["flinkVersion"] == f"v{minor.replace('.', '_')}"
    libraries = {library.name for library in job_server.read(job_server.LIBRARIES)}
    assert f"beam-runners-flink-{minor}" in libraries
    docs = built(overlay, "jobs", "flink")
    (prepare,) = (doc for doc in docs if doc["metadata"]["name"] == "prepare")
    (container,) = prepare["spec"]["template"]["spec"]["containers"]
    assert f"--flink_version={minor}" in container["args"]
    assert minor in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert container["image"].rpartition("/")[2] == "mobilenet-worker:0.1.0"
    (jar,) = (each for each in container["args"] if each.startswith("--flink_job_server_jar="))
    stage = (ROOT.parent / "Dockerfile").read_text().partition(" AS worker\n")[2]
    assert f" {jar.partition('=')[2]}\n" in stage.partition("\nFROM ")[0]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_hyperparameter_is_in_a_manifest(overlay: str) -> None:
    for component in ("", *JOB_COMPONENTS):
        text = json.dumps(built(overlay, "jobs", component))
        assert "--set" not in text
        for word in ("learning_rate", "batch", "momentum", "epoch", "decay"):
            assert word not in text.replace("batch/v1", "").replace("batch.", "")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_pods_name_is_there(overlay: str) -> None:
    """Accounts, volumes and settings of all components exist, generated names included."""
    platform = list(built(overlay, "platform", ""))
    for component in ("", *JOB_COMPONENTS):
        docs = [*platform, *built(overlay, "jobs", component)]
        present = {(doc["kind"], doc["metadata"]["name"]) for doc in docs}
        for doc in docs:
            template = pod_template(doc)
            if template is None:
                continue
            spec = template["spec"]
            assert ("ServiceAccount", spec["serviceAccountName"]) in present
            for volume in spec["volumes"]:
                if claim := volume.get("persistentVolumeClaim"):
                    assert ("PersistentVolumeClaim", claim["claimName"]) in present
            mounted = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
            own = {
                claim["metadata"]["name"] for claim in doc["spec"].get("volumeClaimTemplates", [])
            }
            assert mounted <= {volume["name"] for volume in spec["volumes"]} | own
            for source in spec["containers"][0].get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in present


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_policies_name_components_that_exist(overlay: str) -> None:
    docs = [*built(overlay, "platform", ""), *built(overlay, "jobs", "")]
    templates = [template for doc in docs if (template := pod_template(doc))]
    present = {template["metadata"]["labels"][render.STAGE_LABEL] for template in templates}
    named = set(
        re.findall(
            r'"app.kubernetes.io/component": "([\w-]+)"',
            json.dumps([doc["spec"] for doc in docs if doc["kind"] == "NetworkPolicy"]),
        )
    )
    assert named - {"postgres"} <= present
    assert any(
        doc["kind"] == "NetworkPolicy"
        and doc["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for doc in docs
    )


@pytest.mark.parametrize(("overlay", "half", "component"), CASES)
def test_an_overlay_may_choose_another_namespace(overlay: str, half: str, component: str) -> None:
    def namespaces(part: object) -> set[str]:
        if isinstance(part, list):
            return set().union(*map(namespaces, part))
        if not isinstance(part, dict):
            return set()
        keys = ("namespace", "kubernetes.io/metadata.name")
        own = {part[key] for key in keys if isinstance(part.get(key), str)}
        return own.union(*map(namespaces, part.values()))

    assert namespaces(list(built(overlay, half, component, "elsewhere"))) == {"elsewhere"}


def test_the_namespace_enforces_what_the_pods_keep() -> None:
    for overlay in OVERLAYS:
        docs = built(overlay, "platform", "")
        (namespace,) = (doc for doc in docs if doc["kind"] == "Namespace")
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        names = {doc["metadata"].get("namespace", "mobilenet") for doc in docs}
        assert names == {"mobilenet"}
