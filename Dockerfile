# This file builds five images, one for each role:
#   ingest     Beam and the launcher, no TensorFlow: stage `prepare` and the supervisor
#   worker     the same for the workers of Dataflow and Flink
#   train      TensorFlow on CPUs: evaluate, export, publish, TensorBoard, tf.data service
#   train-gpu  the same with CUDA: stage `train`
#   registry   the MLflow server with its PostgreSQL driver
# Build one with: docker build --target train -t mobilenet-train .
# BASE is any Debian image with Python 3.11 and venv; GO is one with Go 1.26.
ARG BASE=python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b
ARG GO=golang:1.26.8-bookworm@sha256:f4191582e1522dfc5980a6bdc0309a756f9697f3e7d0f199c7e26fc82ab324fd

# Each module's go.sum has the digest of everything that goes into the program.
FROM ${GO} AS kustomize
WORKDIR /src
COPY constraints/go/kustomize ./
RUN CGO_ENABLED=0 go build -trimpath -o /out/kustomize sigs.k8s.io/kustomize/kustomize/v5
FROM ${GO} AS beam-boot
WORKDIR /src
COPY constraints/go/beam_boot ./
RUN CGO_ENABLED=0 go build -trimpath -o /out/boot github.com/apache/beam/sdks/v2/python/container

FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The manifests run everything as this user, with a read-only root file system.
RUN useradd --uid 10001 --create-home mobilenet && python3 -m venv /opt/mobilenet
ENV PATH=/opt/mobilenet/bin:$PATH MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1
WORKDIR /home/mobilenet
ENTRYPOINT ["mobilenet"]

# Dependencies come first, so that a change to the code does not install them again.
FROM base AS ingest-dependencies
COPY constraints/ingest.txt /src/
RUN pip install --require-hashes -r /src/ingest.txt
FROM base AS train-dependencies
COPY constraints/train.txt /src/
RUN pip install --require-hashes -r /src/train.txt
FROM base AS train-gpu-dependencies
COPY constraints/train-gpu.txt /src/
RUN pip install --require-hashes -r /src/train-gpu.txt
FROM base AS registry
COPY constraints/registry.txt /src/
RUN pip install --require-hashes -r /src/registry.txt
USER 10001
ENTRYPOINT ["mlflow"]
CMD ["server", "--help"]

# Beam would download its job server when `prepare` submits to Flink; pods of the cluster cannot.
FROM ingest-dependencies AS flink-job-server
COPY preprocessing/execution/flink /src/
RUN python /src/job_server.py /out/flink-job-server.jar

# The project is built once, for the Python that every image has.
FROM base AS project
WORKDIR /src
COPY constraints/ingest.txt ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' ingest.txt > build.txt && pip install --require-hashes -r build.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY k8s k8s
COPY preprocessing preprocessing
COPY training training
COPY pipeline pipeline
RUN pip install --no-deps --no-build-isolation --prefix=/out .

FROM ingest-dependencies AS ingest
COPY --from=kustomize /out/kustomize /usr/local/bin/kustomize
COPY --from=project /out /opt/mobilenet
# Exports name this commit as their origin; the image has no git.
ARG GIT_COMMIT=unknown
ENV MOBILENET_GIT_COMMIT=$GIT_COMMIT
USER 10001
CMD ["prepare", "--help"]

# Dataflow and Flink start this image on their workers (--sdk_container_image). It is the image ingest
# with Beam's entry point, which has nothing left to install, and with the jar that `prepare` submits to Flink.
FROM ingest AS worker
COPY --from=beam-boot /out/boot /opt/apache/beam/boot
COPY --from=flink-job-server /out/flink-job-server.jar /opt/mobilenet/flink-job-server.jar
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
CMD []

FROM train-dependencies AS train
COPY --from=project /out /opt/mobilenet
ARG GIT_COMMIT=unknown
ENV MOBILENET_GIT_COMMIT=$GIT_COMMIT
USER 10001
CMD ["train", "--help"]

FROM train-gpu-dependencies AS train-gpu
COPY --from=project /out /opt/mobilenet
ARG GIT_COMMIT=unknown
ENV MOBILENET_GIT_COMMIT=$GIT_COMMIT
USER 10001
CMD ["train", "--help"]
