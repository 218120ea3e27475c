"""TF-Lite files in LiteRT: loaded, run, and examined."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipeline.local.quiet import chatter_hidden
from preprocessing import storage
from preprocessing.errors import DataError


class LiteRTModel:
    """A loaded flatbuffer: float images in, probabilities out, whatever types it has itself.

    Raises:
        DataError: The bytes are no complete TF-Lite model.
    """

    def __init__(self, flatbuffer: bytes, num_threads: int = 1, name: str = "the model") -> None:
        with _first_words_hidden():
            self._interpreter = _interpreter(flatbuffer, name, num_threads=num_threads)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    @classmethod
    def read(cls, path: str, num_threads: int = 1) -> LiteRTModel:
        """Load the file at `path`."""
        return cls(storage.read_bytes(path), num_threads, path)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`(1, S, S, 3)`."""
        return tuple(map(int, self._input["shape"]))

    @property
    def input_type(self) -> type:
        """NumPy type of the input."""
        input_type: type = self._input["dtype"]
        return input_type

    @property
    def output_type(self) -> type:
        """NumPy type of the output."""
        output_type: type = self._output["dtype"]
        return output_type

    @property
    def num_outputs(self) -> int:
        """Number of outputs: the classes and the background."""
        return int(self._output["shape"][-1])

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return `float32 [outputs]` for an image `float32 [S, S, 3]` in [-1, 1]."""
        self.set_image(image)
        self.invoke()
        output = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero_point = self._output["quantization"]
        if scale:
            output = (output.astype(np.float32) - zero_point) * scale
        return np.asarray(output, np.float32)

    def set_image(self, image: np.ndarray) -> None:
        """Put `float32 [S, S, 3]` in [-1, 1] into the input tensor."""
        scale, zero_point = self._input["quantization"]
        if scale:
            limits = np.iinfo(self._input["dtype"])
            image = np.clip(np.round(image / scale) + zero_point, limits.min, limits.max)
        self._interpreter.set_tensor(
            self._input["index"], image[np.newaxis].astype(self._input["dtype"])
        )

    def invoke(self) -> Any:
        """Run once on the content of the input tensor."""
        return self._interpreter.invoke()


def op_counts(flatbuffer: bytes) -> Counter[str]:
    """Return the number of operators of each type in a model."""
    return Counter(op["op_name"] for op in _undelegated(flatbuffer)._get_ops_details())


def arena_bytes(flatbuffer: bytes) -> int:
    """Return the peak memory for activations, from the first to the last planned byte.

    This is the memory of LiteRT's own kernels, which a phone without a delegate needs. It is read
    off the addresses of the tensors that operators write.
    """
    interpreter = _undelegated(flatbuffer)
    written = {int(details["index"]) for details in interpreter.get_input_details()}
    for op in interpreter._get_ops_details():
        # Weights that are stored in float16 are widened once and kept elsewhere.
        if op["op_name"] != "DEQUANTIZE" or int(op["inputs"][0]) in written:
            written |= {int(index) for index in op["outputs"]}
    spans = []
    for index in written:
        view = interpreter.tensor(index)()
        start = view.__array_interface__["data"][0]
        spans.append((start, start + view.nbytes))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def _undelegated(flatbuffer: bytes) -> Any:
    return _interpreter(
        flatbuffer,
        "the model",
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


_has_spoken = False


@contextlib.contextmanager
def _first_words_hidden() -> Iterator[None]:
    """Hide that LiteRT creates its delegate, which it tells once in a process."""
    global _has_spoken
    with contextlib.nullcontext() if _has_spoken else chatter_hidden():
        yield
    _has_spoken = True


def _interpreter(flatbuffer: bytes, name: str, **options: Any) -> Any:
    try:
        interpreter = Interpreter(model_content=flatbuffer, **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} is no complete TF-Lite model ({str(error).splitlines()[0]}); "
            "fetch or export it again"
        ) from error
    return interpreter
