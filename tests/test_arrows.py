"""Imports follow the arrows of the design; they are read from the source without importing it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("preprocessing", "training", "pipeline", "tests", "benchmarks")
# What the trainer shares with ingest: the contract, files and exit codes; never Beam or sources.
SHARED = {
    "preprocessing.records.schema",
    "preprocessing.records.imagenet",
    "preprocessing.storage",
    "preprocessing.errors",
    "preprocessing.limits",
    "preprocessing.progress",
    "preprocessing.extensions",
    "preprocessing.terminal",
    "preprocessing.worker_pool",
}
# A chapter or a single module of `preprocessing` imports only those before it.
PREPROCESSING_CHAPTERS = (
    "errors",
    "limits",
    "extensions",
    "terminal",
    "progress",
    "worker_pool",
    "storage",
    "records",
    "sources",
    "images",
    "shuffle",
    "ingest_plan",
    "shards",
    "execution",
    "assemble",
    "adopt",
    "earlier_runs",
    "ingest",
)
# A chapter of `training` imports only chapters before it.
TRAINING_CHAPTERS = (
    "metrics",
    "models",
    "config",
    "workdir",
    "workers",
    "input",
    "optimization",
    "weights",
    "monitoring",
    "loop",
)
# A chapter of `pipeline` imports only chapters before it.
PIPELINE_CHAPTERS = (
    "local",
    "planning",
    "inspection",
    "export",
    "benchmark",
    "publish",
    "certificate",
    "demo",
    "cluster",
    "cli",
)


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} is empty"
    return found


def imported(path: Path) -> set[str]:
    """Return the dotted names of all modules and members that `path` imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(path: Path) -> set[str]:
    """Return the dotted names of the modules from which `path` imports something."""
    tree = ast.walk(ast.parse(path.read_text()))
    return {str(node.module) for node in tree if isinstance(node, ast.ImportFrom)}


def door(folder: Path) -> set[str]:
    """Return names in the `__all__` of a chapter."""
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def imported_at_start(path: Path) -> set[str]:
    """Return the top-level packages that are imported together with the module."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", modules("preprocessing"), ids=lambda path: path.name)
def test_preprocessing_imports_nothing_of_ours_and_no_tensorflow(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path)}
    assert not packages & ({*OURS, "tensorflow", "keras", "kubeflow"} - {"preprocessing"})


@pytest.mark.parametrize("path", modules("preprocessing"), ids=lambda path: path.name)
def test_a_chapter_of_preprocessing_imports_only_chapters_before_it(path: Path) -> None:
    chapter = path.relative_to(ROOT / "preprocessing").parts[0].removesuffix(".py")
    if chapter == "__init__":
        return
    allowed = PREPROCESSING_CHAPTERS[: PREPROCESSING_CHAPTERS.index(chapter) + 1]
    for name in imported(path):
        package, _, rest = name.partition(".")
        if package == "preprocessing":
            assert rest.split(".")[0] in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("folder", ["preprocessing", "training", "pipeline"])
def test_chapters_of_preprocessing_are_entered_by_their_doors(folder: str) -> None:
    for path in modules(folder):
        inside = path.relative_to(ROOT).parts[:2]
        for name in imported(path):
            package, *parts = name.split(".")
            is_chapter = (ROOT / "preprocessing" / parts[0]).is_dir() if parts else False
            if package != "preprocessing" or not is_chapter or inside == (package, parts[0]):
                continue
            if len(parts) > 1:
                doors = door(ROOT / "preprocessing" / parts[0])
                assert parts[1] in doors, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules("training"), ids=lambda path: path.name)
def test_training_imports_only_the_shared_part_of_preprocessing_and_never_beam(path: Path) -> None:
    for name in imported(path):
        package = name.split(".")[0]
        assert package not in {"pipeline", "tests", "benchmarks", "apache_beam", "kubeflow"}
        if package == "preprocessing":
            assert any(f"{name}.".startswith(f"{allowed}.") for allowed in SHARED) or (
                name.startswith("preprocessing.") and name in SHARED
            ), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules("training"), ids=lambda path: path.name)
def test_a_chapter_of_training_imports_only_chapters_before_it(path: Path) -> None:
    chapter = path.relative_to(ROOT / "training").parts[0]
    if chapter == "__init__.py":
        return
    allowed = TRAINING_CHAPTERS[: TRAINING_CHAPTERS.index(chapter) + 1]
    for name in imported(path):
        package, _, rest = name.partition(".")
        if package == "training":
            assert rest.split(".")[0] in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("folder", ["preprocessing", "training", "pipeline", "benchmarks"])
def test_chapters_of_training_are_entered_by_their_doors(folder: str) -> None:
    doors = {chapter: door(ROOT / "training" / chapter) for chapter in TRAINING_CHAPTERS}
    for path in modules(folder):
        inside = path.relative_to(ROOT).parts[:2]
        for module in imported_modules(path):
            package, *parts = module.split(".")
            if package != "training" or len(parts) < 2 or inside == ("training", parts[0]):
                continue
            assert parts[1] in doors[parts[0]], f"{path.name} imports {module}"


@pytest.mark.parametrize("path", modules("pipeline"), ids=lambda path: path.name)
def test_a_chapter_of_pipeline_imports_only_chapters_before_it(path: Path) -> None:
    chapter = path.relative_to(ROOT / "pipeline").parts[0]
    if chapter.endswith(".py"):
        return
    allowed = PIPELINE_CHAPTERS[: PIPELINE_CHAPTERS.index(chapter) + 1]
    for name in imported(path):
        package, _, rest = name.partition(".")
        if package == "pipeline":
            assert rest.split(".")[0] in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules("pipeline"), ids=lambda path: path.name)
def test_chapters_of_pipeline_are_entered_by_their_doors(path: Path) -> None:
    """A module that another chapter imports is in the `__all__` of its own folder."""
    chapter = path.relative_to(ROOT / "pipeline").parts[0]
    for name in imported(path):
        package, *parts = name.split(".")
        if package != "pipeline" or parts[0] == chapter:
            continue
        folder = ROOT / "pipeline"
        while (folder / parts[0]).is_dir():
            folder /= parts.pop(0)
        assert parts[0] in door(folder), f"{path.name} imports {name}"


def test_beam_is_known_to_one_chapter() -> None:
    users = {
        path.relative_to(ROOT).parts[:2]
        for folder in ("preprocessing", "training", "pipeline")
        for path in modules(folder)
        if "apache_beam" in {name.split(".")[0] for name in imported(path)}
    }
    assert users == {("preprocessing", "execution")}


def test_kubernetes_is_known_to_one_chapter() -> None:
    users = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in ("preprocessing", "training", "pipeline")
        for path in modules(folder)
        if {"kubeflow", "kubernetes"} & {name.split(".")[0] for name in imported(path)}
    }
    assert users == {"pipeline/cluster/api"}


def test_cluster_backends_know_nothing_of_the_cluster_around_them() -> None:
    for path in modules("pipeline/cluster/backends"):
        ours = {name for name in imported(path) if name.split(".")[0] in OURS}
        for name in ours:
            assert name.startswith(("pipeline.cluster.backends", "preprocessing")), (
                f"{path.name} imports {name}"
            )


def test_the_command_line_imports_nothing_heavy_at_start() -> None:
    heavy = {"tensorflow", "keras", "apache_beam", "mlflow", "sklearn", "kubeflow", "kubernetes"}
    for path in (
        *modules("pipeline/cli"),
        ROOT / "pipeline" / "local" / "processes.py",
        *modules("pipeline/cluster"),
    ):
        assert not imported_at_start(path) & {*heavy, "rich", "yaml"}


def test_inspect_imports_nothing_that_only_one_of_the_two_images_has() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, pipeline.inspection.inspection; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    assert not {"apache_beam", "simplejpeg", "xxhash", "tensorflow", "mlflow"} & set(loaded)


def test_every_folder_says_its_one_job() -> None:
    chapters = [f"training/{chapter}" for chapter in TRAINING_CHAPTERS]
    for folder in ("preprocessing", "training", "pipeline", "pipeline/cluster", "tests", *chapters):
        docstring = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
        assert docstring
        assert len(docstring.splitlines()) == 1
    assert (ROOT / "k8s" / "README.md").read_text().strip()
