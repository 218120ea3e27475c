"""TensorBoard's pages of a run besides its scalars: images, histograms, mistakes, a profile."""

from __future__ import annotations

import logging
import resource
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalars
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.hparams import summary_v2 as hparams

from preprocessing.records.schema import Manifest
from training.input.data import SINGLE_PROCESS, finished, training_batches
from training.input.inception import eval_view
from training.input.records import Readable
from training.metrics.accuracy import Accuracy, EvaluatedImages
from training.metrics.step_means import StepMeans
from training.monitoring import image_summaries
from training.monitoring.summaries import GRID_SIDE, Summaries
from training.optimization.state import TrainingState
from training.workdir.progress import Progress
from training.workdir.run_record import Run

logger = logging.getLogger(__name__)

GIB = 2.0**30


def _chart(title: str, *tags: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(
        title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$" for tag in tags])
    )


# The page "Custom Scalars", on which every run has the same charts: what decides comes first.
LAYOUT = layout_pb2.Layout(
    category=[
        layout_pb2.Category(
            title="loss and accuracy",
            chart=[
                _chart("loss", "train/loss"),
                _chart("top-1", "train/top1", "validation/top1", "validation_raw/top1"),
                _chart("top-5", "validation/top5", "validation_raw/top5"),
            ],
        ),
        layout_pb2.Category(
            title="schedule and speed",
            chart=[
                _chart("learning rate", "train/learning_rate"),
                _chart("images per second", "speed/images_per_second"),
                _chart("milliseconds per step", "speed/milliseconds_per_step"),
                _chart("share of time waiting for input", "train/input_wait"),
                _chart("epoch", "train/epoch"),
            ],
        ),
        layout_pb2.Category(
            title="gradients and memory",
            chart=[
                _chart("gradient norm", "train/gradient_norm"),
                _chart("loss with regularization", "train/total_loss", "train/regularization"),
                _chart("peak memory (GiB)", "memory/.*"),
            ],
        ),
    ]
)


class TensorBoard:
    """The pages of one run; on every worker but the chief it shows nothing."""

    def __init__(
        self,
        summaries: Summaries,
        run: Run,
        manifest: Manifest,
        state: TrainingState,
        *,
        profile_steps: int = 0,
    ) -> None:
        self._summaries = summaries
        self._run = run
        self._state = state
        self._names = [
            "background",
            *(
                image_class.text.split(",")[0] for image_class in manifest.classes
            ),  # the first of its synonyms
        ]
        self._profile = _Profile(summaries, profile_steps if summaries.enabled else 0)

    def start(self, records: Readable) -> None:
        """Show the config, as HParams and as text, and the first images of the run."""
        if not self._summaries.enabled:
            return
        step = self._state.step
        deciding = {k: v for k, v in self._run.config.to_json().items() if k != "loop"}
        settings = _flat(deciding) | {"num_replicas": self._run.num_replicas}
        metrics = [
            hparams_api.Metric("validation/top1", display_name="top-1"),
            hparams_api.Metric("validation/top5", display_name="top-5"),
            hparams_api.Metric("train/loss", display_name="training loss"),
        ]
        self._summaries.raw(
            step,
            hparams.hparams_config_pb([hparams_api.HParam(name) for name in settings], metrics),
            hparams.hparams_pb(settings, trial_id=self._run.config_digest[:12]),
        )
        self._summaries.raw(step, custom_scalars.pb(LAYOUT))
        rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
        self._summaries.text(step, "config", f"| setting | value |\n|---|---|\n{rows}")
        config = self._run.config
        batch = training_batches(
            records,
            config.augmentation,
            size=config.variant.resolution,
            seed=config.seed,
            batch_per_replica=GRID_SIDE**2,
            share=SINGLE_PROCESS,
            start_step=0,
        )
        self._summaries.images(step, "augmented_images", next(iter(finished(batch)))[0])

    def after_call(self, num_steps: int) -> None:
        """Start or end the profile when it is time."""
        self._profile.after_call(num_steps)

    def training(self, progress: Progress, means: StepMeans, seconds_per_step: float) -> None:
        """Show the scalars of the steps since the last report."""
        self._summaries.scalars(
            progress.step,
            {
                **{f"train/{name}": value for name, value in means.to_json().items()},
                "train/total_loss": means.total_loss,
                "train/learning_rate": progress.learning_rate,
                "train/epoch": progress.epoch,
                "speed/images_per_second": progress.images_per_second,
                "speed/milliseconds_per_step": 1000 * seconds_per_step,
            },
        )

    def histograms(self, step: int) -> None:
        """Show distributions of all weights and BN parameters, and the memory of the devices."""
        if not self._summaries.enabled:
            return
        named = {}
        for variable in self._state.model.variables:
            layer, _, kind = variable.path.rpartition("/")
            group = "weights" if "kernel" in kind or kind == "bias" else f"bn_{kind}"
            named[f"{group}/{layer}"] = variable.numpy()
        self._summaries.histograms(step, named)

    def memory(self, step: int) -> None:
        """Return the peak memory of every device and of this process."""
        if not self._summaries.enabled:
            return
        # Linux gives KiB.
        peak = {"memory/host_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        for index, _ in enumerate(tf.config.list_logical_devices("GPU")):
            info = tf.config.experimental.get_memory_info(f"GPU:{index}")
            peak[f"memory/gpu{index}_peak_gib"] = info["peak"] / GIB
        self._summaries.scalars(step, peak)

    def evaluation(
        self,
        step: int,
        averaged: Accuracy,
        raw: Accuracy | None = None,
        *,
        images: EvaluatedImages,
        records: Readable,
    ) -> None:
        """Show accuracies, confusion between classes, and the most confident mistakes."""
        if not self._summaries.enabled:
            return
        named = {"validation/top1": averaged.top1, "validation/top5": averaged.top5}
        if raw:
            named |= {"validation_raw/top1": raw.top1, "validation_raw/top5": raw.top5}
        self._summaries.scalars(step, named)
        self._summaries.picture(
            step,
            "confusion",
            image_summaries.confusion(images.labels, images.predicted, self._names),
            "Share of each true class (row) that was taken for another; correct ones left out.",
        )
        wrong = np.flatnonzero(images.labels != images.predicted)
        worst = wrong[np.argsort(-images.confidence[wrong], kind="stable")][: GRID_SIDE**2]
        if len(worst):
            size = self._run.config.variant.resolution
            views = [
                eval_view(
                    records.read(tf.constant(index, tf.int64))[0], size, self._run.config.evaluation
                ).numpy()
                for index in worst
            ]
            captions = [
                f"{self._names[images.labels[i]]}, taken for\n"
                f"{images.confidence[i]:.0%} {self._names[images.predicted[i]]}"
                for i in worst
            ]
            self._summaries.picture(
                step,
                "most_confidently_wrong",
                image_summaries.captioned_views(views, captions),
                f"{len(wrong)} of {len(images.labels)} are wrong; the worst first.",
            )
        self._summaries.upload()

    def close(self) -> None:
        """Close what is open."""
        self._profile.end()
        self._summaries.close()


class _Profile:
    """A trace of some steps, for TensorBoard's profile page."""

    def __init__(self, summaries: Summaries, num_steps: int) -> None:
        self._summaries = summaries
        self._wanted = num_steps
        self._traced = 0
        self._calls = 0
        self._tracing = False

    def after_call(self, num_steps: int) -> None:
        """Start after the second call, when everything is built; end when enough is traced."""
        self._calls += 1
        if self._tracing:
            self._traced += num_steps
            if self._traced >= self._wanted:
                self.end()
        elif self._calls >= 2 and not self._traced and self._wanted:
            tf.profiler.experimental.start(self._summaries.folder)
            self._tracing = True

    def end(self) -> None:
        """Write the trace."""
        if not self._tracing:
            return
        tf.profiler.experimental.stop()
        self._tracing = False
        logger.info(
            "train: profiled %d steps; see the profile page of `mobilenet dashboard`", self._traced
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
