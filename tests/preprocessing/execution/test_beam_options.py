"""A submission to Dataflow is small and complete, and a wrong request is refused before."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

from preprocessing.errors import UsageError
from preprocessing.execution import beam_graph
from preprocessing.execution.beam_options import beam_options
from preprocessing.ingest_plan import ImageOptions, ShardPlan
from preprocessing.records.schema import ImageClass, shard_name
from preprocessing.shards import ShardWriter
from tests.emulator import Emulator
from tests.k8s.flink import prepare_job

FLAGS = (
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=us-central1",
    "--temp_location=gs://bucket/tmp",
    "--sdk_container_image=registry/mobilenet-ingest-worker:1",
)


def test_other_runners_get_what_was_written() -> None:
    given = ["--runner=FlinkRunner", "--parallelism=3", "--flag"]
    assert beam_options(given, "/local", "gs://b/r") == given
    assert beam_options([], "/local") == []


def test_flags_of_dataflow_may_be_written_in_two_words() -> None:
    words = [word for flag in FLAGS for word in flag.split("=", 1)]
    assert beam_options(words, "gs://s", "gs://r")[: len(words)] == words


@pytest.mark.parametrize("missing", FLAGS[1:])
def test_a_missing_flag_of_dataflow_is_named(missing: str) -> None:
    name = missing.partition("=")[0]
    with pytest.raises(UsageError, match=f"DataflowRunner also needs {name}="):
        beam_options([flag for flag in FLAGS if flag != missing], "gs://s", "gs://r")


def test_dataflow_cannot_read_a_local_folder() -> None:
    with pytest.raises(UsageError, match="cannot see the local folder /data; copy it"):
        beam_options(FLAGS, "gs://s", "/data")


def test_the_graph_for_dataflow_names_the_image_and_carries_no_references(
    emulator: Emulator,
) -> None:
    """Beam's own runner translates the graph up to the point where it would call the service."""
    arguments = beam_options(
        [*(flag.replace("gs://bucket", emulator.bucket) for flag in FLAGS)], "gs://s", "gs://r"
    )
    arguments += ["--dry_run=True", "--no_auth", f"--staging_location={emulator.bucket}/staging"]
    shards = [
        ShardPlan(
            split="train", file=shard_name("train", i, 1024), num_images=1251, num_bytes=2**27
        )
        for i in range(1024)
    ]
    classes = tuple(ImageClass(index=i, synset=f"n{i:08d}", text="text") for i in range(1, 1001))
    writer = ShardWriter(records="gs://r/records", classes=classes, image=ImageOptions())
    pipeline = beam.Pipeline(options=PipelineOptions(arguments))
    beam_graph.build(pipeline, shards, writer, local=False)
    pipeline.run()
    graph = pipeline.runner.proto_pipeline
    (environment,) = graph.components.environments.values()
    assert environment.urn == "beam:env:docker:v1"
    assert b"registry/mobilenet-ingest-worker:1" in environment.payload
    names = {transform.unique_name for transform in graph.components.transforms.values()}
    assert {"Write", "Shards", "Shards/MaybeReshuffle/Reshuffle"} <= names
    assert len(graph.SerializeToString()) < 200_000  # Dataflow takes 10 MB


def test_beams_own_options_understand_every_flag_of_dataflow(emulator: Emulator) -> None:
    """What Beam does not know, it drops with a warning, and Dataflow takes its own default."""
    machines = ("--worker_machine_type=n2-standard-8", "--max_num_workers=32", "--disk_size_gb=50")
    flags = [flag.replace("gs://bucket", emulator.bucket) for flag in (*FLAGS, *machines)]
    options = PipelineOptions([*beam_options(flags, "gs://s", "gs://r"), "--no_auth"])
    assert not unknown_flags(options)
    google = options.view_as(GoogleCloudOptions)
    assert (google.project, google.region) == ("my-project", "us-central1")
    assert google.temp_location == f"{emulator.bucket}/tmp"
    workers = options.view_as(WorkerOptions)
    assert workers.sdk_container_image == "registry/mobilenet-ingest-worker:1"
    assert (workers.machine_type, workers.max_num_workers, workers.disk_size_gb) == (
        *("n2-standard-8", 32),
        50,
    )
    setup = options.view_as(SetupOptions)
    assert setup.sdk_location == "container"  # no package is staged
    assert setup.save_main_session is False
    assert not setup.setup_file
    assert not setup.requirements_file
    assert PipelineOptionsValidator(options, DataflowRunner()).validate() == []
    assert google.staging_location == google.temp_location  # the validator fills it in


def test_a_flag_that_beam_does_not_know_would_be_seen() -> None:
    assert unknown_flags(PipelineOptions(["--wroker_machine_type=x"])) == {"wroker_machine_type"}


def test_beams_own_options_understand_every_flag_of_the_component_flink() -> None:
    container = prepare_job()["spec"]["template"]["spec"]["containers"][0]
    arguments = container["args"]
    options = PipelineOptions(arguments[arguments.index("--") + 1 :])
    assert not unknown_flags(options)
    flink = options.view_as(FlinkRunnerOptions)
    assert flink.flink_master == "flink-rest:8081"
    assert flink.flink_submit_uber_jar is True
    assert flink.parallelism == 32  # Flink's own default is 1, whatever the cluster has
    portable = options.view_as(PortableOptions)
    assert portable.environment_type == "EXTERNAL"


def unknown_flags(options: PipelineOptions) -> set[str]:
    """Return the names of flags that no class of Beam's options defines."""
    known = options.get_all_options(retain_unknown_options=False)
    return set(options.get_all_options(retain_unknown_options=True)) - set(known)
