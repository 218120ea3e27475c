"""MobileNetV2 in Python: networks, data, exported models and training runs, for notebooks.

    import mobilenet

    model = mobilenet.build("mobilenet_v2_1.0_224", classes=1000)
    images = mobilenet.records("records").dataset("validation", size=224)
    mobilenet.load("exports/mobilenet_v2_1.0_224")("photo.jpg").top(5)
    mobilenet.train("mobilenet_v2_1.0_224", records="records", workdir="run", recipe="finetune")

The command line does everything else. TensorFlow is imported when a function needs it.
"""

from mobilenet.data import Records, records
from mobilenet.models import build, feature_maps, load
from mobilenet.runs import train
from preprocessing import extensions

extensions.load()

__all__ = ["Records", "build", "feature_maps", "load", "records", "train"]
