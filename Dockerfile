# Two images from one file: `ingest` (Beam, no TensorFlow) and `train` (everything a run needs).
#   docker build --target ingest -t mobilenet-ingest .
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

FROM base AS train
RUN pip install --require-hashes -r constraints/train.txt \
 && pip install --no-deps --no-build-isolation .
USER 1000
WORKDIR /home/mobilenet
ENTRYPOINT ["mobilenet"]
CMD ["train", "--help"]
