"""The registry of model families; whatever lists or names families reads it."""

from __future__ import annotations

from training.models import mobilenet_v1, mobilenet_v2
from training.models.model_family import ModelFamily

# Tables and lists follow this order.
FAMILIES: dict[str, ModelFamily] = {
    family.name: family for family in (mobilenet_v2.FAMILY, mobilenet_v1.FAMILY)
}
