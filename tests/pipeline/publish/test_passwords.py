"""A password in the address of a registry is repeated nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.publish.embedded_registry import browse_command
from pipeline.publish.passwords import without_password
from pipeline.publish.registry import champion
from preprocessing.errors import PermanentError
from tests.conftest import mobilenet

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "password", [SECRET, f"{SECRET}@x", f"a/{SECRET}", f"{SECRET}:b", f"%40{SECRET}", f"#{SECRET}?"]
)
@pytest.mark.parametrize("scheme", ["https", "postgresql", "postgresql+psycopg2", "mysql"])
def test_it_is_hidden_in_any_text(scheme: str, password: str) -> None:
    text = f"cannot reach {scheme}://me:{password}@host:5432/db?sslmode=require (refused)"
    shown = without_password(text)
    assert SECRET not in shown
    assert shown == f"cannot reach {scheme}://me:***@host:5432/db?sslmode=require (refused)"
    assert SECRET not in without_password(f"{scheme}://host/db?password={SECRET}&x=1")
    assert SECRET not in browse_command(f"{scheme}://me:{password}@host/db")


@pytest.mark.parametrize(
    "text", ["sqlite:////home/me/mlflow.db", "http://127.0.0.1:9", "https://host/a", "a@b", ""]
)
def test_what_holds_no_password_is_as_it_was(text: str) -> None:
    assert without_password(text) == text


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_errors_do_not_repeat_it(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "0")
    with pytest.raises(PermanentError) as refused:
        champion("mobilenet_v2_1.0_224", "r" * 64, f"{scheme}://me:{SECRET}@127.0.0.1:9/x")
    assert SECRET not in str(refused.value)
    assert "127.0.0.1:9" in str(refused.value)


def test_the_command_does_not_repeat_it(tmp_path: Path) -> None:
    address = f"https://me:{SECRET}@127.0.0.1:9"
    shown = mobilenet("registry", MLFLOW_TRACKING_URI=address, folder=None)
    assert shown.code == 2
    assert SECRET not in shown.out + shown.err
    assert "127.0.0.1:9" in shown.err
