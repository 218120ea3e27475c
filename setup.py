"""What pyproject.toml cannot say: the manifests of `k8s/` are a package's data, too."""

from setuptools import find_packages, setup

MANIFESTS = "pipeline.cluster.manifests"
PACKAGES = ["mobilenet*", "pipeline*", "preprocessing*", "training*"]

setup(
    packages=[*find_packages(include=PACKAGES), MANIFESTS],
    package_dir={MANIFESTS: "k8s"},
)
