"""Results of others with networks of this size, on ImageNet's validation set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """A network that someone else published; top-1 in percent."""

    name: str
    macs_millions: float
    parameters_millions: float
    top1: float
    pixel1_ms: float | None = None


# slim's nets/mobilenet/README.md, float rows.
MOBILENET_V3 = (
    Peer("V3 large 1.0", 217, 5.4, 75.2, 51.2),
    Peer("V3 large 0.75", 155, 4.0, 73.3, 39.8),
    Peer("V3 large minimalistic 1.0", 209, 3.9, 72.3, 44.1),
    Peer("V3 small 1.0", 66, 2.9, 67.5, 15.8),
    Peer("V3 small 0.75", 44, 2.4, 65.4, 12.8),
    Peer("V3 small minimalistic 1.0", 65, 2.0, 61.9, 12.2),
)

# MobileNetV2 trained by others; MACs and parameters are those of the same network in our table.
OTHERS_V2 = (
    # timm's results CSV: mobilenetv2_140 and _050 (LAMB), mobilenetv2_100 (ra_in1k).
    Peer("timm 1.4", 582, 6.06, 76.528),
    Peer("timm 1.0", 300, 3.47, 72.910),
    Peer("timm 0.5", 97, 1.95, 65.928),
    # torchvision's MobileNet_V2_Weights: IMAGENET1K_V1 and _V2.
    Peer("torchvision V1", 300, 3.47, 71.878),
    Peer("torchvision V2", 300, 3.47, 72.154),
    # tensorflow/models, official/vision: imagenet_mobilenetv2_{gpu,tpu}.yaml.
    Peer("Model Garden GPU", 300, 3.47, 71.0),
    Peer("Model Garden TPU", 300, 3.47, 72.72),
    # keras.io/api/applications: slim's weights, converted.
    Peer("Keras Applications", 300, 3.47, 71.3),
    # d-li14/mobilenetv2.pytorch.
    Peer("d-li14", 300, 3.47, 72.2),
)
