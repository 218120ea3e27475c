"""What a runner repeats after a loss, and what it says when it gives up."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing.errors import RetryError
from preprocessing.execution import beam_graph
from preprocessing.ingest_plan import ImageOptions, ShardPlan, plan_ingest
from preprocessing.shards import PLANS, REPORTS, ShardWriter
from preprocessing.sources.registry import find_source


@pytest.fixture
def planned(archives: Path, tmp_path: Path) -> tuple[ShardWriter, ShardPlan]:
    plan = plan_ingest(
        find_source(str(archives)),
        str(tmp_path / PLANS),
        num_shards={"train": 4, "validation": 1},
        seed=0,
        image=ImageOptions(),
    )
    writer = ShardWriter(records=str(tmp_path), classes=plan.classes, image=ImageOptions())
    return writer, plan.shards[0]


def test_a_finished_shard_is_counted_and_not_written_again(
    planned: tuple[ShardWriter, ShardPlan], tmp_path: Path
) -> None:
    writer, shard = planned
    assert writer.finished(shard) is None
    counts = writer.write(shard)
    before = (tmp_path / shard.file).stat()
    assert writer.finished(shard) == counts
    beam_graph.WriteShard(writer).process(shard)
    assert (tmp_path / shard.file).stat() == before


@pytest.mark.parametrize("damage", ["cut", "report"])
def test_a_damaged_shard_is_written_again(
    planned: tuple[ShardWriter, ShardPlan], tmp_path: Path, damage: str
) -> None:
    writer, shard = planned
    writer.write(shard)
    whole = (tmp_path / shard.file).read_bytes()
    if damage == "cut":
        (tmp_path / shard.file).write_bytes(whole[:-1])
    else:
        (tmp_path / REPORTS / f"{shard.file}.json").write_text("{")
    assert writer.finished(shard) is None
    beam_graph.WriteShard(writer).process(shard)
    assert (tmp_path / shard.file).read_bytes() == whole


def test_a_runner_that_does_not_answer_may_be_tried_again(
    planned: tuple[ShardWriter, ShardPlan], tmp_path: Path
) -> None:
    writer, shard = planned
    jar = tmp_path / "flink.jar"
    jar.write_bytes(b"PK\5\6" + bytes(18))  # an empty archive
    flags = [
        *("--runner=FlinkRunner", "--flink_master=127.0.0.1:9", "--flink_submit_uber_jar"),
        *(f"--flink_job_server_jar={jar}", "--environment_type=EXTERNAL"),
        "--environment_config=localhost:50000",
    ]
    with pytest.raises(RetryError, match=r"does not answer .*127\.0\.0\.1.* run the same command"):
        beam_graph.run([shard], writer, flags)
