"""A submission is the overlay's templates with this run's values, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.cli.entry_point import parse
from pipeline.cluster import launch, render
from pipeline.cluster.backends import registry
from preprocessing.errors import UsageError
from tests.pipeline.cluster.conftest import CPU, rendered
from tests.pipeline.cluster.rendering import GPU_RUN, first, gpu_run


@pytest.mark.parametrize(
    ("layout", "workers", "gpus"), [("1x8", 1, 8), ("2x4", 2, 4), ("8x1", 8, 1)]
)
def test_a_layout_is_replicas_gpus_and_a_disruption_budget(
    layout: str, workers: int, gpus: int
) -> None:
    run = gpu_run(layout)
    job, budget = render.attempt(run.record.stages["train"], run.record.spec, "run", 1)
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert list(job["spec"]["tfReplicaSpecs"]) == ["Worker"]
    assert worker["replicas"] == workers == budget["spec"]["minAvailable"]
    (container,) = worker["template"]["spec"]["containers"]
    for key in ("requests", "limits"):
        assert int(container["resources"][key]["nvidia.com/gpu"]) == gpus
    selected = budget["spec"]["selector"]["matchLabels"]
    assert selected == {"training.kubeflow.org/job-name": job["metadata"]["name"]}


@pytest.mark.parametrize("layout", ["1x8", "2x4", "8x1"])
def test_a_tfjob_is_as_the_operator_and_multi_worker_training_need_it(layout: str) -> None:
    job = first(gpu_run(layout), "train")
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    # Without runPolicy the SDK cannot read the job back; without AllWorkers the others are
    # killed as soon as worker 0 is done.
    assert job["spec"]["runPolicy"]["cleanPodPolicy"] == "Running"
    assert "backoffLimit" not in job["spec"]["runPolicy"]
    assert job["spec"]["successPolicy"] == "AllWorkers"
    assert "enableDynamicWorker" not in job["spec"]
    assert worker["restartPolicy"] == "ExitCode"
    assert container["name"] == "tensorflow"
    assert {"name": "tfjob-port", "containerPort": 2222} in container["ports"]
    # A peer's name resolves only once it is ready, and it is ready only once all peers are there.
    assert not {"readinessProbe", "livenessProbe", "startupProbe"} & set(container)
    assert worker["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_run_is_in_every_object_and_changes_nothing_else(cpu_run: launch.Rendered) -> None:
    templates = render.render("local", ("cpu",), "mobilenet")
    kinds = {template["kind"] for template in templates}
    for stage in cpu_run.record.spec.stages:
        job = first(cpu_run, stage)
        assert job["metadata"]["name"] == f"run-{stage}-1"
        assert job["metadata"]["labels"][render.RUN_LABEL] == "run"
        pod = render.pod_template(job)
        assert pod is not None
        assert pod["metadata"]["labels"][render.RUN_LABEL] == "run"
        assert pod["metadata"]["labels"][render.ATTEMPT_LABEL] == "1"
        environment = {
            variable["name"]: variable.get("value")
            for variable in pod["spec"]["containers"][0]["env"]
        }
        assert environment["RUN"] == "run"
        if stage == "train":
            assert environment["VARIANT"] == "mobilenet_v2_0.35_64"
            assert environment["RECIPE"] == "demo"
        (template,) = (
            template
            for template in templates
            if template["kind"] in registry.kinds() and template["metadata"]["name"] == stage
        )
        original = render.pod_template(template)
        assert original is not None
        for key in ("volumes", "securityContext", "serviceAccountName"):
            assert pod["spec"][key] == original["spec"][key]
    assert kinds == {"ConfigMap", "Job", "PodDisruptionBudget", "TFJob"}


def test_settings_of_the_recipe_reach_the_trainer_and_nobody_else() -> None:
    run = rendered("--set=optimizer.momentum=0.8", "--set=seed=3")
    for stage in run.record.spec.stages:
        pod = render.pod_template(first(run, stage))
        assert pod is not None
        added = [
            argument for argument in pod["spec"]["containers"][0]["args"] if "--set" in argument
        ]
        assert added == (
            ["--set=optimizer.momentum=0.8", "--set=seed=3"] if stage == "train" else []
        )


def test_the_pods_settings_are_an_object_that_is_submitted_too(cpu_run: launch.Rendered) -> None:
    """A generated ConfigMap has a hash in its name, which kustomize must also put into a TFJob."""
    (settings,) = cpu_run.shared
    for stage in cpu_run.record.spec.stages:
        pod = render.pod_template(first(cpu_run, stage))
        assert pod is not None
        (source,) = pod["spec"]["containers"][0]["envFrom"]
        assert source["configMapRef"]["name"] == settings["metadata"]["name"]


def test_a_queued_job_waits_for_kueue_from_its_first_moment() -> None:
    for backend, where in (("tfjob", "runPolicy"), ("jobset", None)):
        job = first(rendered("--queue", f"--backend={backend}"), "train")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "mobilenet"
        assert (job["spec"][where] if where else job["spec"])["suspend"] is True


def test_a_priority_is_a_label_for_kueue_and_no_part_of_what_the_run_is() -> None:
    for backend in ("tfjob", "jobset"):
        plain = rendered("--queue", f"--backend={backend}")
        urgent = rendered("--queue", f"--backend={backend}", "--priority=mobilenet-urgent")
        assert urgent.record.spec == plain.record.spec
        labels, expected = (first(run, "train")["metadata"]["labels"] for run in (urgent, plain))
        assert labels.pop("kueue.x-k8s.io/priority-class") == "mobilenet-urgent"
        for changed in (labels, expected):
            del changed[render.MANIFESTS_LABEL]
        assert labels == expected


def test_a_priority_needs_a_queue() -> None:
    with pytest.raises(UsageError, match="add --queue"):
        rendered("--priority=mobilenet-urgent")


def test_all_is_all_22_variants_under_different_names() -> None:
    runs = launch.from_arguments(parse(["launch", "--overlay=local", "--all"]))
    assert len({run.record.name for run in runs}) == len(runs) == 22
    assert all(run.record.spec.queued for run in runs)


def test_pipeline_prepares_first(cpu_run: launch.Rendered) -> None:
    finishing = ("train", "evaluate", "export", "publish")
    assert cpu_run.record.spec.stages == finishing
    assert rendered("--pipeline").record.spec.stages == ("prepare", *finishing)


def test_placeholders_that_are_still_there_are_refused() -> None:
    with pytest.raises(UsageError, match="gs://BUCKET; put in yours"):
        launch.from_arguments(parse(["launch", *GPU_RUN]))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--overlay=lokal"], "did you mean 'local'"),
        (["--with=spto"], "did you mean 'spot'"),
        (["--recipe=dem"], "did you mean 'demo'"),
        (["--set=optimizer.momentun=1"], "did you mean 'momentum'"),
        (["--variant=mobilenet_v2_1.0_244x"], "did you mean 'mobilenet_v2_1.0_224'"),
        (["--name=Not_A_Name"], "--name 'Not_A_Name'"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_rendered(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        launch.from_arguments(parse([*CPU, *flags]))


@pytest.mark.parametrize(
    "flag",
    ["--max-attempts=0", "--workers=0", "--gpus=-1", "--deadline-hours=nan", "--price-per-hour=-1"],
)
def test_a_number_that_cannot_be_meant_is_refused_by_its_flag(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*CPU, flag])
    assert ended.value.code == 2
    assert f"{flag.split('=')[0]}: expects" in capsys.readouterr().err


def test_without_kustomize_and_kubectl_the_message_says_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UsageError, match=r"neither kustomize nor kubectl .*: install kubectl \(https://"
    ):
        rendered()


def test_what_is_printed_is_what_is_submitted(
    cpu_run: launch.Rendered, capsys: pytest.CaptureFixture[str]
) -> None:
    launch.print_manifests([cpu_run])
    text = capsys.readouterr().out
    assert list(yaml.safe_load_all(text)) == [
        *cpu_run.shared,
        *launch.first_objects(cpu_run.record),
    ]
    assert "&id" not in text


def test_the_manifests_are_found_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (render.manifests_folder() / "overlays" / "local").is_dir()
