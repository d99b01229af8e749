"""What a training leaves on the way: a checkpoint from which it goes on, and a log of its epochs."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from captioner.atomic import write_atomic
from captioner.errors import DatasetError

_LOG = logging.getLogger(__name__)


class Checkpoint:
    """The whole state of a stage in one file of plain arrays; going on from it equals never having stopped.

    Args:
        path: The file.
        settings: What the state belongs to; a checkpoint with other settings is not used.
    """

    def __init__(self, path: str | Path, settings: dict):
        self.path = Path(path)
        self.settings = json.dumps(settings, sort_keys=True, default=str)

    def save(self, model: keras.Model, record: dict) -> None:
        """Writes weights, optimiser and ``record`` (JSON types)."""
        arrays = {f"v{i}": np.asarray(v) for i, v in enumerate(self._variables(model))}
        buffer = io.BytesIO()
        np.savez(buffer, record=json.dumps(record), settings=self.settings, **arrays)
        write_atomic(self.path, buffer.getbuffer())

    def restore(self, model: keras.Model) -> dict | None:
        """Puts the saved state into the model; returns its record, or None where there is no checkpoint.

        Raises:
            DatasetError: The checkpoint belongs to a run with other settings or data, or is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                settings = str(saved["settings"])
                record = json.loads(str(saved["record"]))
                arrays = [saved[f"v{i}"] for i in range(len(saved.files) - 2)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{self.path}: damaged ({error}); remove the file to start this stage anew") from error
        variables = self._variables(model)
        same_shapes = [array.shape for array in arrays] == [tuple(variable.shape) for variable in variables]
        if settings != self.settings or not same_shapes:
            raise DatasetError(
                f"{self.path}: belongs to a run with other settings or data; use another --output or remove the file"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return record

    @staticmethod
    def _variables(model):
        return [*model.variables, *model.optimizer.variables]


class TrainingLog:
    """A CSV file with one line an epoch, and TensorBoard events where TensorFlow and TensorBoard are installed.

    Args:
        folder: Where ``log.csv`` and the events go.
        stage: Name of the stage, first column.
    """

    def __init__(self, folder: str | Path, stage: str):
        self.path = Path(folder) / f"{stage}.csv"
        self.stage = stage
        self.rows: list[dict] = []
        self._events = Path(folder) / "tensorboard" / stage

    def write(self, rows: Sequence[dict]) -> None:
        """Replaces the log by these rows (a resumed run hands over the rows of its checkpoint)."""
        self.rows = list(rows)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path, text.getvalue())
        if rows:
            _LOG.info("%s, %s", self.stage, ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
        if rows and keras.backend.backend() == "tensorflow" and importlib.util.find_spec("tensorboard"):
            self._add_events(rows[-1])

    def _add_events(self, row: dict) -> None:
        import tensorflow as tf

        with tf.summary.create_file_writer(str(self._events)).as_default():
            for name, value in row.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value, step=row["epoch"])
