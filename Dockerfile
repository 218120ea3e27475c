# Images from one file: `ingest` (Beam, no TensorFlow), `worker` (the same for Beam's workers)
# and `train` (everything a run needs).
#   docker build --target ingest -t mobilenet-ingest .
#   docker build --target worker -t mobilenet-ingest-worker .
#   docker build --target train -t mobilenet-train .

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 1000 --create-home mobilenet && python -m venv /opt/mobilenet
ENV PATH=/opt/mobilenet/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY preprocessing preprocessing
COPY training training
COPY pipeline pipeline
# The commit that exports name as their origin; there is no git in the image.
ARG GIT_COMMIT=unknown
ENV MOBILENET_GIT_COMMIT=$GIT_COMMIT

FROM base AS ingest
RUN pip install --require-hashes -r constraints/ingest.txt \
 && pip install --no-deps --no-build-isolation .
USER 1000
WORKDIR /home/mobilenet
ENTRYPOINT ["mobilenet"]
CMD ["prepare", "--help"]

# What Dataflow and Flink start on their workers, for --sdk_container_image: the same, behind
# Beam's own entry point, which installs nothing because all is there.
FROM ingest AS worker
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
CMD []

FROM base AS train
RUN pip install --require-hashes -r constraints/train.txt \
 && pip install --no-deps --no-build-isolation .
USER 1000
WORKDIR /home/mobilenet
ENTRYPOINT ["mobilenet"]
CMD ["train", "--help"]
