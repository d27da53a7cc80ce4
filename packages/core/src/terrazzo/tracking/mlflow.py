"""Runs in MLflow: a SQLite file or a server, by its client alone."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from terrazzo.base.atomic_write import replace_text
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import TrackingConfig
from terrazzo.runs.folder import RunFolder
from terrazzo.tracking.results import Results
from terrazzo.tracking.run_summary import MARKERS, Facts, Point

_DEFAULT_URI = "sqlite:///mlflow.db"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SCHEMES = (*_DATABASES, "http", "https", "databricks")
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""MLflow's own patience is minutes a request. What the user has set stays."""
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# Limits of MLflow for one request.
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_LONGEST_PARAM = 6000


def make(settings: TrackingConfig, folder: RunFolder) -> MlflowTracker:
    """Make the tracker; imports MLflow, connects to nothing.

    Raises:
        ImportError: a package is missing.
        ConfigError: SEG-X051, `settings.uri` is of a kind that is not supported, or a SQLite file
            in a folder that is not there.
    """
    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_URI
    uri = os.path.expandvars(uri)
    _check_uri(uri)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    importlib.import_module("mlflow")
    if _scheme(uri) in _DATABASES:
        importlib.import_module("sqlalchemy")
        importlib.import_module("alembic")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowTracker(uri, settings.experiment, folder)


class MlflowTracker:
    """One run in an MLflow experiment; its id is in ``mlflow.json`` in the run folder."""

    def __init__(self, uri: str, experiment: str, folder: RunFolder) -> None:
        self._uri, self._experiment = uri, experiment
        self._identity = folder.path / "mlflow.json"
        self._client: Any = None
        self._run_id = ""

    def begin(self, facts: Facts) -> Mapping[str, int]:
        """Open the run, under the id it has had before if it still exists."""
        from mlflow import MlflowClient

        _make_file(_sqlite_file(self._uri))
        self._client = MlflowClient(tracking_uri=self._uri)
        run = self._known_run()
        if run is None:
            tags = facts.tags | {
                "mlflow.source.name": facts.tags["terrazzo.command"],
                "mlflow.source.git.commit": facts.tags.get("terrazzo.git_commit", ""),
            }
            run = self._client.create_run(self._experiment_id(), tags=tags, run_name=facts.name)
            identity = {"uri": _shown(self._uri), "run_id": run.info.run_id}
            replace_text(self._identity, json.dumps(identity) + "\n")
        self._run_id = run.info.run_id
        self._client.update_run(self._run_id, status="RUNNING")
        self._log_settings(facts, run.data.params)
        return {kind: self._last_step(marker) for kind, marker in MARKERS.items()}

    def send(self, points: Sequence[Point]) -> None:
        """Add values, a whole point or nothing of it."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics: list[Any] = []
        for step, values in points:
            found = [Metric(name, value, now, step) for name, value in values.items()]
            if len(metrics) + len(found) > _MOST_METRICS:
                self._send(metrics)
                metrics = []
            metrics += found
        self._send(metrics)

    def finish(self, status: str, results: Results | None) -> None:
        """Close the run; one that is finished gets scores, figures, files and model."""
        if results is not None:
            self.send([results.scores])
            with tempfile.TemporaryDirectory() as folder:
                for name, png in results.figures.items():
                    (Path(folder) / f"{name}.png").write_bytes(png)
                self._client.log_artifacts(self._run_id, folder, "figures")
            for path in results.files:
                self._client.log_artifact(self._run_id, str(path))
            self._client.log_artifacts(self._run_id, str(results.model), "model")
        self._client.set_terminated(self._run_id, _STATUS[status])

    def _send(self, metrics: Sequence[Any]) -> None:
        for some in _chunks(metrics, _MOST_METRICS):
            self._client.log_batch(self._run_id, metrics=some)

    def _known_run(self) -> Any:
        """Return the run this folder has had on this server, None if there is none."""
        from mlflow.exceptions import MlflowException

        if not self._identity.is_file():
            return None
        identity = json.loads(self._identity.read_text(encoding="utf-8"))
        if identity["uri"] != _shown(self._uri):
            return None
        try:
            run = self._client.get_run(identity["run_id"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(self._client.create_experiment(self._experiment, _artifacts(self._uri)))
            except MlflowException:  # another run has made it meanwhile
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _log_settings(self, facts: Facts, known: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [
            Param(key, value[:_LONGEST_PARAM])
            for key, value in facts.settings.items()
            if key not in known
        ]
        for some in _chunks(params, _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=some)

    def _last_step(self, name: str) -> int:
        history = self._client.get_metric_history(self._run_id, name)
        return max((each.step for each in history), default=-1)


def _check_uri(uri: str) -> None:
    scheme, file = _scheme(uri), _sqlite_file(uri)
    if scheme not in _SCHEMES:
        raise ConfigError(
            "SEG-X051",
            "MLflow cannot be reached by this URI",
            observed=_shown(uri),
            allowed="sqlite:///FILE.db, https://SERVER, or the URI of another data base",
            next_step="correct tracking.uri, or MLFLOW_TRACKING_URI in the environment; a folder "
            "of files is no longer kept up by MLflow",
        )
    if file is not None and not file.parent.is_dir():
        raise ConfigError(
            "SEG-X051",
            "the folder of the SQLite file is not there",
            file=file,
            observed=_shown(uri),
            next_step="make the folder, or correct tracking.uri; sqlite:///a.db is a file in the "
            "working directory, sqlite:////data/a.db one in /data",
        )


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0] if ":" in uri or uri == "databricks" else ""


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.partition("///")[2]) if _scheme(uri) == "sqlite" else None


def _make_file(file: Path | None) -> None:
    """Make a SQLite file that is not there yet: with all its tables, or not at all.

    It takes seconds, and MLflow refuses a file that a killed run has left half made.
    """
    from mlflow import MlflowClient

    if file is None or file.exists():
        return
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # another run was faster
            os.link(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _artifacts(uri: str) -> str | None:
    """Return where the artifacts of a new experiment go; None: where the server likes."""
    file = _sqlite_file(uri)
    return None if file is None else (file.resolve().parent / "mlartifacts").as_uri()


def _shown(uri: str) -> str:
    """Return the URI without a password."""
    return re.sub(r"//[^/@]+@", "//", uri)


def _chunks(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
