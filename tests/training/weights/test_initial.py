"""Published checkpoints can be imported, as finished runs or as a start for other classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.cli import main
from pipeline.export import directory
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records.schema import Manifest
from tests.conftest import mobilenet
from tests.emulator import Emulator
from tests.shallow_family import VARIANT
from tests.training.small_runs import config_of, run
from training.config import RunConfig
from training.config.recipes import demo
from training.models.architecture import architecture
from training.models.layout import Architecture
from training.models.variants import Variant
from training.optimization.state import TrainingState, values
from training.weights import slim_checkpoint
from training.weights.at_hand import at_hand
from training.weights.content_digest import checkpoint_digest
from training.weights.initial import import_checkpoint, start_from
from training.weights.keras_applications import application, read_named
from training.weights.run_weights import load_state
from training.weights.slim_checkpoint import SHADOW, slim_shapes, slim_variables
from training.workdir.workdir import Workdir

KERAS_VARIANT = "mobilenet_v2_0.35_32"  # `keras.applications` has it


def make_checkpoint(folder: Path, outputs: int) -> tuple[Path, Architecture, dict[str, np.ndarray]]:
    """Write a slim checkpoint as someone else might have trained it, and return its averages."""
    layout = architecture(Variant.parse(VARIANT), outputs)
    state = fresh(demo(Variant.parse(VARIANT)), outputs)
    raw = {name: v.numpy() for name, v in slim_variables(state.model, layout).items()}
    averages = {name: value * 0.5 for name, value in raw.items()}
    slim_checkpoint.write(str(folder / f"{VARIANT}.ckpt"), raw, averages, 700_000)
    return folder / f"{VARIANT}.ckpt", layout, averages


def fresh(config: RunConfig, outputs: int) -> TrainingState:
    return TrainingState(config, num_outputs=outputs, num_examples=100, num_replicas=1)


def test_an_imported_checkpoint_is_a_finished_run_with_the_same_numbers(tmp_path: Path) -> None:
    prefix, layout, averages = make_checkpoint(tmp_path, 1001)
    workdir = tmp_path / "run"
    outcome = mobilenet("import-checkpoint", prefix, f"--variant={VARIANT}", f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    assert (outcome.result["step"], outcome.result["complete"]) == (700_000, True)
    run = Workdir(str(workdir)).read_run()
    assert (run.num_classes, run.config.recipe) == (1000, "published")
    state = load_state(Workdir(str(workdir)), run)
    for name, variable in slim_variables(state.averaged_model, layout).items():
        assert np.array_equal(variable.numpy(), averages[name]), name
    for name, variable in slim_variables(state.model, layout).items():
        assert np.array_equal(variable.numpy() * 0.5, averages[name]), name


def test_a_checkpoint_of_another_variant_is_refused_whole(tmp_path: Path) -> None:
    prefix, _, _ = make_checkpoint(tmp_path, 1001)
    outcome = mobilenet(
        "import-checkpoint",
        prefix,
        "--variant=shallow_1.0_32",
        f"--workdir={tmp_path}/run",
    )
    assert outcome.code == 3
    assert "of another shape: " in outcome.err
    assert "needed" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "config.json").exists()


def test_weights_start_equal_and_a_head_of_other_classes_is_dropped_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix, layout, averages = make_checkpoint(tmp_path, 1001)
    state, untouched = (
        fresh(demo(Variant.parse(VARIANT)), 11),
        fresh(demo(Variant.parse(VARIANT)), 11),
    )
    start_from(str(prefix), state)
    assert "has 1001 outputs, 11 are needed; it is dropped" in capsys.readouterr().err
    before = slim_variables(untouched.model, layout)
    for name, variable in slim_variables(state.model, layout).items():
        expected = before[name].numpy() if "/Logits/" in name else averages[name]
        assert np.array_equal(variable.numpy(), expected), name
    for shadow, value in zip(state.ema.shadows, values(state.model), strict=True):
        assert np.array_equal(shadow.numpy(), tf.convert_to_tensor(value).numpy())


def test_a_keras_file_becomes_a_run_with_a_background_that_never_wins(tmp_path: Path) -> None:
    variant = Variant.parse(KERAS_VARIANT)
    theirs = application(variant, 10)
    path = tmp_path / "their.weights.h5"
    theirs.save_weights(path)
    workdir = tmp_path / "run"
    outcome = mobilenet(
        "import-checkpoint", path, f"--variant={KERAS_VARIANT}", f"--workdir={workdir}"
    )
    assert outcome.code == 0, outcome.err
    run = Workdir(str(workdir)).read_run()
    assert run.num_classes == 10
    state = load_state(Workdir(str(workdir)), run)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    logits = state.averaged_model(images, training=False).numpy()
    np.testing.assert_allclose(logits[:, 1:], theirs(images, training=False), rtol=1e-5, atol=1e-5)
    assert (logits[:, 0] < logits[:, 1:].min(axis=1) - 10).all()


def test_fine_tuning_starts_from_a_keras_file_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = Variant.parse(KERAS_VARIANT)
    path = str(tmp_path / "their.weights.h5")
    application(variant, 1000).save_weights(path)
    state = fresh(demo(Variant.parse(KERAS_VARIANT)), 11)
    start_from(path, state)
    assert "has 1000 outputs, 11 are needed; it is dropped" in capsys.readouterr().err
    expected = read_named(path, variant)
    for name, variable in slim_variables(state.model, state.layout).items():
        if "/Logits/" not in name:
            assert np.array_equal(variable.numpy(), expected[name]), name
    with pytest.raises(DataError, match="of another shape"):
        read_named(path, Variant.parse("mobilenet_v2_0.5_32"))


def test_the_digest_is_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, _, _ = make_checkpoint(tmp_path / "a", 11)
    second, _, _ = make_checkpoint(tmp_path / "b", 11)
    assert checkpoint_digest(str(first)) == checkpoint_digest(str(second))


def test_the_digest_is_of_all_weights_wherever_they_are(tmp_path: Path) -> None:
    """In several files, in nested folders; and never of nothing."""
    prefix, _, _ = make_checkpoint(tmp_path, 11)
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    folder = tmp_path / "outer" / "deep" / "deeper"
    folder.mkdir(parents=True)
    digests = set()
    for last in (b"", b"x"):
        for number, part in enumerate((data[:100], data[100:] + last)):
            (folder / f"x.ckpt.data-0000{number}-of-00002").write_bytes(part)
        digests |= {
            checkpoint_digest(str(tmp_path / "outer")),
            checkpoint_digest(f"{folder}/x.ckpt"),
        }
    assert len(digests) == 2  # by content, not by how it is named
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "absent"):
        with pytest.raises(UsageError, match="holds no weights"):
            checkpoint_digest(str(tmp_path / nothing))


def test_a_checkpoint_without_averages_gives_its_raw_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slim writes such a checkpoint unless it is told to average."""
    variant = Variant.parse(VARIANT)
    prefix, layout, _ = make_checkpoint(tmp_path, 1001)
    raw, step = slim_checkpoint.read(str(prefix), slim_shapes(layout), "raw")
    plain = str(tmp_path / "plain.ckpt")
    slim_checkpoint.write(plain, raw, {}, step)
    state = fresh(demo(variant), 1001)
    start_from(plain, state)
    assert "holds no moving averages; its raw weights are used" in capsys.readouterr().err
    for name, variable in slim_variables(state.model, layout).items():
        assert np.array_equal(variable.numpy(), raw[name]), name
    progress = import_checkpoint(plain, variant, Workdir(str(tmp_path / "run")), "ema")
    assert (progress.imported, progress.step) == ("raw", step)


@pytest.mark.parametrize("form", ["prefix", "folder"])
def test_a_checkpoint_in_a_bucket_is_the_one_here(
    emulator: Emulator, tmp_path: Path, form: str
) -> None:
    prefix, _, _ = make_checkpoint(tmp_path, 1001)
    folder = f"{emulator.bucket}/published"
    for file in tmp_path.iterdir():
        storage.write_bytes(f"{folder}/{file.name}", file.read_bytes())
    here = prefix if form == "prefix" else tmp_path
    path = f"{folder}/{Path(prefix).name}" if form == "prefix" else folder
    with at_hand(path) as local:
        assert checkpoint_digest(local) == checkpoint_digest(str(here))
        start_from(local, fresh(demo(Variant.parse(VARIANT)), 1001))
    assert not os.path.exists(local)
    workdir = f"{emulator.bucket}/run"
    command = ["import-checkpoint", path, f"--variant={VARIANT}", f"--workdir={workdir}"]
    outcome = mobilenet(*command)
    assert outcome.code == 0, outcome.err
    assert "nothing to do" in mobilenet(*command).err
    missing = mobilenet("import-checkpoint", f"{folder}/none.ckpt", *command[2:])
    assert missing.code == 2
    assert f"{folder}/none.ckpt does not exist" in missing.err


@pytest.mark.slow
def test_fine_tuning_end_to_end(records: Path, tmp_path: Path) -> None:
    """A run is trained, exported as a slim checkpoint, and fine-tuned for other classes."""
    prefix, _, _ = make_checkpoint(tmp_path, 1001)
    workdir = tmp_path / "tuned"
    flags = (
        "train",
        f"--variant={VARIANT}",
        "--recipe=demo",
        f"--records={records}",
        f"--workdir={workdir}",
        f"--initial-checkpoint={prefix}",
        "--set=training.batch_per_replica=16",
        "--set=training.total_images=96",
        "--set=loop.steps_per_loop=3",
    )
    outcome = mobilenet(*flags)
    assert outcome.code == 0, outcome.err
    assert "1001 outputs, 11 are needed; it is dropped" in outcome.err
    assert outcome.result["step"] == 6
    evaluated = mobilenet("evaluate", f"--workdir={workdir}", f"--records={records}")
    assert evaluated.result["examples"] == 360
    again = mobilenet(*flags)
    assert again.code == 0
    without = mobilenet(*(flag for flag in flags if "initial" not in flag))
    assert without.code == 2
    assert "initial_checkpoint" in without.err

    exported = mobilenet(
        "export",
        f"--workdir={workdir}",
        f"--records={records}",
        f"--output={tmp_path}/export",
        "--formats=frozen_graph",
    )
    assert exported.code == 0, exported.err
    state = load_state(Workdir(str(workdir)), Workdir(str(workdir)).read_run())
    reader = tf.train.load_checkpoint(str(tmp_path / "export" / f"{VARIANT}.ckpt"))
    for model, ending in ((state.model, ""), (state.averaged_model, SHADOW)):
        for name, variable in slim_variables(model, state.layout).items():
            assert np.array_equal(reader.get_tensor(name + ending), variable.numpy()), name
    assert Manifest.read(str(records)).num_examples("validation") == 360


def test_the_single_file_of_format_v1_is_read_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix, layout, averages = make_checkpoint(tmp_path, 1001)
    (tmp_path / "v1" / "nested").mkdir(parents=True)
    single = tmp_path / "v1" / "nested" / "model.ckpt-700000"
    reader = tf.train.load_checkpoint(str(prefix))
    names = sorted(reader.get_variable_to_shape_map())
    tf.raw_ops.Save(
        filename=str(single), tensor_names=names, data=[reader.get_tensor(n) for n in names]
    )
    (single.parent / "model.ckpt-700000.meta").write_bytes(b"graph")
    for number, path in enumerate((single, tmp_path / "v1")):
        workdir = Workdir(str(tmp_path / f"run{number}"))
        progress = import_checkpoint(str(path), Variant.parse(VARIANT), workdir, "ema")
        assert progress.step == 700_000
        assert "format V1 (a single file)" in capsys.readouterr().err
        state = load_state(workdir, workdir.read_run())
        for name, variable in slim_variables(state.averaged_model, layout).items():
            assert np.array_equal(variable.numpy(), averages[name]), name
    assert checkpoint_digest(str(single)) != checkpoint_digest(str(prefix))
    other = tmp_path / "v1" / "other.ckpt"
    other.write_bytes(single.read_bytes())
    with pytest.raises(UsageError, match=r"holds 2 checkpoints: .*other\.ckpt"):
        import_checkpoint(str(tmp_path / "v1"), Variant.parse(VARIANT), workdir, "ema")


@pytest.mark.parametrize(
    ("outputs", "flag", "classes"),
    [(1000, None, 1000), (1000, True, 999), (1001, None, 1000), (10, False, 10), (10, None, 9)],
)
def test_a_head_without_background_gets_one_that_never_wins(
    outputs: int,
    flag: bool | None,
    classes: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefix, layout, averages = make_checkpoint(tmp_path, outputs)
    workdir = Workdir(str(tmp_path / "run"))
    import_checkpoint(str(prefix), Variant.parse(VARIANT), workdir, "ema", flag)
    run = workdir.read_run()
    assert run.num_classes == classes
    is_added = classes == outputs
    assert ("no output for the background" in capsys.readouterr().err) == is_added
    named = {
        name: variable.numpy()
        for name, variable in slim_variables(
            load_state(workdir, run).averaged_model, layout
        ).items()
    }
    head = f"{layout.scope}/{layout.classifier.scope}"
    assert np.array_equal(named[f"{head}/weights"][..., is_added:], averages[f"{head}/weights"])
    assert np.array_equal(named[f"{head}/biases"][is_added:], averages[f"{head}/biases"])
    if is_added:
        assert named[f"{head}/biases"][0] <= averages[f"{head}/biases"].min() - 20
        assert not named[f"{head}/weights"][..., 0].any()


def test_fine_tuning_keeps_a_head_of_imagenets_classes_without_background(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix, layout, averages = make_checkpoint(tmp_path, 1000)
    state = fresh(demo(Variant.parse(VARIANT)), 1001)
    start_from(str(prefix), state)
    assert "no output for the background" in capsys.readouterr().err
    head = f"{layout.scope}/{layout.classifier.scope}/weights"
    assert np.array_equal(
        slim_variables(state.model, layout)[head].numpy()[..., 1:], averages[head]
    )


def random_checkpoint(folder: Path, number: int) -> Path:
    """Write a checkpoint of step 1 with random weights for the digits."""
    random = np.random.default_rng(number)
    shapes = slim_shapes(architecture(Variant.parse(VARIANT), 11))
    named = {
        name: np.abs(random.normal(0.1, 0.05, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    (folder / f"{number}").mkdir()
    slim_checkpoint.write(str(folder / f"{number}" / "x.ckpt"), named, named, 1)
    return folder / f"{number}" / "x.ckpt"


@pytest.mark.slow
def test_other_weights_of_the_same_step_are_evaluated_and_exported_anew(
    records: Path, tmp_path: Path
) -> None:
    """A workdir that held another checkpoint ends like an empty one."""

    def results(prefix: Path, folder: Path) -> list[object]:
        workdir, export = folder / "run", folder / "export"
        place = [f"--workdir={workdir}", f"--records={records}"]
        assert main(["import-checkpoint", str(prefix), f"--variant={VARIANT}", place[0]]) == 0
        assert main(["evaluate", *place]) == 0
        assert main(["export", *place, f"--output={export}", "--formats=tflite_float32"]) == 0
        metrics = directory.read_metrics(str(export))
        directory.require_intact(str(export), metrics)
        evaluation = storage.read_json(str(workdir / "evaluation.json"))
        return [
            {**evaluation, "workdir": ""},
            metrics.lineage,
            {name: figures.top1 for name, figures in metrics.formats.items()},
            (export / f"{VARIANT}.tflite").read_bytes(),
        ]

    first, second = (random_checkpoint(tmp_path, number) for number in range(2))
    expected = results(second, tmp_path / "fresh")
    before = results(first, tmp_path / "used")
    for _ in range(2):  # nothing is left to do the second time
        assert results(second, tmp_path / "used") == expected != before


def test_a_trained_run_is_not_replaced_by_an_import(records: Path, tmp_path: Path) -> None:
    prefix, _, _ = make_checkpoint(tmp_path, 11)
    run(config_of("training.total_images=32"), records, tmp_path / "run")
    with pytest.raises(UsageError, match=r"holds another run: .*choose another --workdir"):
        import_checkpoint(
            str(prefix), Variant.parse(VARIANT), Workdir(str(tmp_path / "run")), "ema"
        )
