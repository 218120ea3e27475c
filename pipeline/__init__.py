"""The pipeline around training: command line, demo, export, measurement, registry, publishing."""

import os

# ONNX Runtime and MLflow report every use to their makers. A user who wants that sets the variable;
# child processes such as MLflow's server get it, too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
