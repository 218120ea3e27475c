"""The plan of a run: what it will do and cost. It needs neither data nor TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from preprocessing.records.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from training.config import RunConfig
from training.models.architecture import architecture
from training.optimization.schedule import Schedule

# ILSVRC2012_img_train.tar is 147,897,477,120 bytes.
IMAGENET_BYTES_PER_IMAGE = 147_897_477_120 / NUM_TRAIN_IMAGES
# The backward pass costs twice the forward pass; a multiply-accumulate is two operations.
FLOPS_PER_MAC = 3 * 2
TABLE_ROWS = 13
SCALING_REPLICAS = (1, 2, 4, 8)
HOP_SECONDS = 20e-6  # latency of one transfer between neighbours, of NCCL's order


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One row of the schedule, before update `step`."""

    step: int
    epoch: float
    learning_rate: float
    ema_decay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that follows from a config and a number of replicas."""

    config: RunConfig
    num_replicas: int
    num_examples: int

    @property
    def global_batch(self) -> int:
        """Number of images per update."""
        return self.config.training.batch_per_replica * self.num_replicas

    @property
    def num_steps(self) -> int:
        """Number of updates."""
        return self.config.num_steps(self.num_replicas)

    @property
    def schedule(self) -> Schedule:
        """The schedule of the learning rate."""
        return Schedule.of(
            self.config.optimizer,
            num_examples=self.num_examples,
            batch_per_replica=self.config.training.batch_per_replica,
            num_replicas=self.num_replicas,
        )

    @property
    def images(self) -> int:
        """Number of images that are read."""
        return self.num_steps * self.global_batch

    def at(self, step: int) -> Moment:
        """Return the schedule before update `step`."""
        return Moment(
            step=step,
            epoch=step * self.global_batch / self.num_examples,
            learning_rate=self.schedule.at(step),
            ema_decay=min(self.config.training.ema_decay, (1 + step) / (10 + step)),
        )

    @property
    def gradient_bytes(self) -> int:
        """Bytes that every replica gives to the all-reduce of one step, in float32."""
        layout = architecture(self.config.variant, NUM_CLASSES + 1)
        return 4 * layout.trainable

    def scaling(self, images_per_second: float, gigabits_per_second: float) -> dict[str, Any]:
        """Return modelled images/s and efficiency of 1, 2, 4 and 8 replicas of one batch size.

        In the model a step is the computation of one replica, followed by a ring all-reduce of
        its gradients, which moves 2 (n - 1) / n of them over each link in 2 (n - 1) hops. Nothing
        overlaps, and the input keeps up.

        Args:
            images_per_second: The speed of one replica alone.
            gigabits_per_second: The speed of one replica's link, each way.
        """
        compute_seconds = self.config.training.batch_per_replica / images_per_second
        modelled = {}
        for replicas in SCALING_REPLICAS:
            sent = 2 * (replicas - 1) / replicas * self.gradient_bytes
            hops = 2 * (replicas - 1)
            seconds = sent * 8 / (gigabits_per_second * 1e9) + hops * HOP_SECONDS
            efficiency = compute_seconds / (compute_seconds + seconds)
            modelled[str(replicas)] = {
                "bytes_sent_per_step": round(sent),
                "images_per_second": round(replicas * images_per_second * efficiency),
                "efficiency": round(efficiency, 4),
            }
        return modelled

    def summary(
        self,
        images_per_second: float | None = None,
        price_per_hour: float | None = None,
        gigabits_per_second: float = 100.0,
    ) -> dict[str, Any]:
        """Return the figures that `mobilenet plan` prints.

        Args:
            images_per_second: The speed of all replicas together; `hours` and `scaling` follow.
            price_per_hour: The price of all machines together; with the speed, `cost` follows.
            gigabits_per_second: The speed of one replica's link to the others, for `scaling`.
        """
        variant = self.config.variant
        macs = architecture(variant, NUM_CLASSES + 1).macs
        last = self.at(self.num_steps - 1)
        figures: dict[str, Any] = {
            "variant": variant.name,
            "recipe": self.config.recipe,
            "replicas": self.num_replicas,
            "global_batch": self.global_batch,
            "steps": self.num_steps,
            "epochs": round(self.images / self.num_examples, 2),
            "warmup_steps": self.schedule.warmup_steps,
            "decay_steps": self.schedule.decay_steps,
            "decays": (self.num_steps - 1) // self.schedule.decay_steps,
            "first_learning_rate": self.at(0).learning_rate,
            "last_learning_rate": last.learning_rate,
            "images_read": self.images,
            "bytes_read": round(self.images * IMAGENET_BYTES_PER_IMAGE),
            "flops": self.images * macs * FLOPS_PER_MAC,
            "gradient_bytes_per_step": self.gradient_bytes,
        }
        if images_per_second:
            figures["hours"] = round(self.images / images_per_second / 3600, 2)
            if price_per_hour is not None:
                figures["cost"] = round(figures["hours"] * price_per_hour, 2)
            figures["scaling"] = self.scaling(
                images_per_second / self.num_replicas, gigabits_per_second
            )
        return figures

    def table(self) -> str:
        """Return the schedule at evenly spread moments, the first and the last included."""
        lines = [f"{'step':>9} {'epoch':>8} {'learning rate':>14} {'EMA decay':>10}"]
        for row in range(TABLE_ROWS):
            moment = self.at((self.num_steps - 1) * row // (TABLE_ROWS - 1))
            lines.append(
                f"{moment.step:>9} {moment.epoch:>8.2f} {moment.learning_rate:>14.6g} "
                f"{moment.ema_decay:>10.6f}"
            )
        return "\n".join(lines)

    def plot(self, path: str) -> None:
        """Draw learning rate and EMA decay over the run into a picture."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        moments = [self.at((self.num_steps - 1) * i // 2000) for i in range(2001)]
        epochs = [moment.epoch for moment in moments]
        figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
        (rate,) = axes.step(
            epochs, [moment.learning_rate for moment in moments], where="post", color="C0"
        )
        axes.set(
            xlabel="epoch",
            ylabel="learning rate",
            yscale="log",
            title=f"{self.config.variant.name}, recipe {self.config.recipe}, {self.num_replicas} x "
            f"{self.config.training.batch_per_replica} images, {self.num_steps:,} steps",
        )
        axes.grid(alpha=0.3, which="both")
        right = axes.twinx()
        (average,) = right.plot(epochs, [moment.ema_decay for moment in moments], color="C1")
        right.set(ylabel="EMA decay", ylim=(0, 1.05))
        axes.legend([rate, average], ["learning rate", "EMA decay"], loc="lower left")
        figure.savefig(path, dpi=120)
        pyplot.close(figure)
