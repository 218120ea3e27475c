"""One small dataset in every layout of ImageNet, with the oddities of the real one."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

# Synset: words and ILSVRC2012 id. Ids are not in the order of the synsets, as in the real kit.
CLASSES = {
    "n01440764": ("tench, Tinca tinca", 3),
    "n01443537": ("goldfish, Carassius auratus", 1),
    "n02092002": ("Scottish deerhound, deerhound", 2),
}
LABELS = {synset: label for label, synset in enumerate(CLASSES, start=1)}
VALIDATION = ("n02092002", "n01440764", "n01440764", "n01443537", "n02092002")

_RANDOM = np.random.default_rng(12)


def _picture(width: int, height: int) -> Image.Image:
    small = _RANDOM.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# By split and name; the class of a training image is the start of its name.
TRAIN: dict[str, bytes] = {
    f"{synset}_{number}.JPEG": encode(_picture(40 + number % 50, 30), quality=95)
    for synset in CLASSES
    for number in (18, 37, 2933)
}
TRAIN["n01440764_2933.JPEG"] = encode(_picture(30, 20), "PNG")
TRAIN["n01443537_18.JPEG"] = encode(_picture(48, 32).convert("CMYK"), quality=95)
TRAIN["n01443537_37.JPEG"] = encode(_picture(48, 32).convert("L"), quality=95)
VALIDATION_IMAGES = {
    f"ILSVRC2012_val_{number:08d}.JPEG": encode(_picture(36, 24 + number), quality=95)
    for number in range(1, len(VALIDATION) + 1)
}


@dataclass(frozen=True)
class Annotation:
    """One XML file: the size that the annotator saw, and objects with names and corners."""

    size: tuple[int, int]
    objects: tuple[tuple[str, int, int, int, int], ...]
    filename: str = ""

    def xml(self, folder: str, stem: str) -> bytes:
        objects = "".join(
            f"<object><name>{name}</name><pose>Unspecified</pose><bndbox>"
            f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
            "</bndbox></object>"
            for name, xmin, ymin, xmax, ymax in self.objects
        )
        width, height = self.size
        return (
            f"<annotation><folder>{folder}</folder><filename>{self.filename or stem}</filename>"
            f"<source><database>ILSVRC_2012</database></source><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size><segmented>0</segmented>"
            f"{objects}</annotation>\n"
        ).encode()


ANNOTATIONS = {
    "n01440764_18": Annotation(  # two, not in ascending order
        (500, 375), (("n01440764", 250, 100, 499, 300), ("n01440764", 10, 20, 111, 233))
    ),
    "n01440764_37": Annotation(  # inverted, and beyond the image
        (300, 200), (("n01440764", 200, 150, 100, 50), ("n01440764", -20, 30, 350, 201)), "%s"
    ),
    "n01440764_2933": Annotation(  # without area, or wholly outside
        (300, 200), (("n01440764", 7, 9, 7, 80), ("n01440764", 310, 9, 320, 80))
    ),
    "n01443537_18": Annotation((100, 80), (("n01440764", 10, 10, 50, 50),)),  # another class
    "n01443537_37": Annotation((3, 7), (("n99999999", 1, 1, 2, 3),)),  # an unknown class
    "n02092002_18": Annotation((640, 480), (("Scottish_deerhound", 0, 0, 640, 479),)),
    "n02092002_404": Annotation((640, 480), (("n02092002", 0, 0, 640, 479),)),  # no such image
}
VALIDATION_ANNOTATIONS = {
    "ILSVRC2012_val_00000002": Annotation((200, 100), (("n01440764", 20, 10, 100, 50),)),
    "ILSVRC2012_val_00000004": Annotation((200, 100), (("n02092002", 20, 10, 100, 50),)),
}
# What slim makes of the above: relative to the XML's size, 4 decimals, ascending.
BOXES = {
    "n01440764_18.JPEG": ((0.02, 0.0533, 0.222, 0.6213), (0.5, 0.2667, 0.998, 0.8)),
    "n01440764_37.JPEG": ((0.0, 0.15, 1.0, 1.0), (0.3333, 0.25, 0.6667, 0.75)),
    "n01443537_37.JPEG": ((0.3333, 0.1429, 0.6667, 0.4286),),
    "n02092002_18.JPEG": ((0.0, 0.0, 1.0, 0.9979),),
    "ILSVRC2012_val_00000002.JPEG": ((0.1, 0.1, 0.5, 0.5),),
}


def synset_of(name: str) -> str:
    """Return the class of an image of either split."""
    if name.startswith("ILSVRC2012_val_"):
        return VALIDATION[int(name[15:23]) - 1]
    return name.split("_")[0]


def tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def meta_mat() -> bytes:
    """Return `meta.mat` with the fields of the real one, inner nodes of the hierarchy included."""
    rows = [
        (number, synset, words, f"what a {words} is", 0, np.zeros(0), 0, 1300)
        for synset, (words, number) in CLASSES.items()
    ]
    rows.append((4, "n02084071", "dog, domestic dog", "a dog", 2, np.array([2.0, 5.0]), 1, 0))
    rows.sort(key=lambda row: row[0])
    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    table = np.array([rows], dtype=[(name, object) for name in fields]).reshape(-1, 1)
    packed = io.BytesIO()
    savemat(packed, {"synsets": table}, do_compression=True)
    return packed.getvalue()


def devkit_files() -> dict[str, bytes]:
    truth = "".join(f"{CLASSES[synset][1]}\n" for synset in VALIDATION).encode()
    root = "ILSVRC2012_devkit_t12"
    return {
        f"{root}/readme.txt": b"hello",
        f"{root}/data/meta.mat": meta_mat(),
        f"{root}/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }


def devkit() -> bytes:
    return gzip.compress(tar(devkit_files()), mtime=0)


def train_annotations() -> dict[str, bytes]:
    return {
        f"{stem.split('_')[0]}/{stem}.xml": annotation.xml(stem.split("_")[0], stem)
        for stem, annotation in ANNOTATIONS.items()
    }


def train_boxes(*, nested: bool) -> bytes:
    files = train_annotations()
    if not nested:
        return gzip.compress(tar(files), mtime=0)
    return gzip.compress(
        tar(
            {
                f"{synset}.tar.gz": gzip.compress(
                    tar({n: x for n, x in files.items() if n.startswith(synset)}), mtime=0
                )
                for synset in CLASSES
            }
        ),
        mtime=0,
    )


def validation_boxes() -> bytes:
    return gzip.compress(
        tar(
            {
                f"val/{s}.xml": annotation.xml("val", s)
                for s, annotation in VALIDATION_ANNOTATIONS.items()
            }
        ),
        mtime=0,
    )


def write_official(
    folder: Path, *, kit: bool = True, boxes: bool = True, nested_boxes: bool = False
) -> Path:
    """Write the archives, with the development kit or with slim's two text files."""
    folder.mkdir(parents=True)
    of_synset = {
        synset: {name: image for name, image in TRAIN.items() if synset_of(name) == synset}
        for synset in reversed(CLASSES)
    }
    files = {
        "ILSVRC2012_img_train.tar": tar({f"{s}.tar": tar(i) for s, i in of_synset.items()}),
        "ILSVRC2012_img_val.tar": tar(VALIDATION_IMAGES),
    }
    if kit:
        files["ILSVRC2012_devkit_t12.tar.gz"] = devkit()
    else:
        files["imagenet_2012_validation_synset_labels.txt"] = "\n".join(VALIDATION).encode()
        files["imagenet_metadata.txt"] = _metadata()
    if boxes:
        files["ILSVRC2012_bbox_train_v2.tar.gz"] = train_boxes(nested=nested_boxes)
        files["ILSVRC2012_bbox_val_v3.tgz"] = validation_boxes()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _metadata() -> bytes:
    return "".join(f"{synset}\t{words}\n" for synset, (words, _) in CLASSES.items()).encode()


def write_kaggle(folder: Path, *, boxes: bool = True) -> Path:
    """Write Kaggle's download, unpacked."""
    files = {}
    for name, image in TRAIN.items():
        files[f"ILSVRC/Data/CLS-LOC/train/{synset_of(name)}/{name}"] = image
    for name, image in VALIDATION_IMAGES.items():
        files[f"ILSVRC/Data/CLS-LOC/val/{name}"] = image
    if boxes:
        for stem, annotation in ANNOTATIONS.items():
            synset = stem.split("_")[0]
            xml = annotation.xml(synset, stem)
            files[f"ILSVRC/Annotations/CLS-LOC/train/{synset}/{stem}.xml"] = xml
        for stem, annotation in VALIDATION_ANNOTATIONS.items():
            files[f"ILSVRC/Annotations/CLS-LOC/val/{stem}.xml"] = annotation.xml("val", stem)
    solution = ["ImageId,PredictionString"]
    for name in reversed(VALIDATION_IMAGES):  # the real one is in no order either
        solution.append(f"{name[:-5]},{synset_of(name)} 1 2 30 40 {synset_of(name)} 3 4 5 6 ")
    files["LOC_val_solution.csv"] = "\n".join([*solution, ""]).encode()
    files["LOC_synset_mapping.txt"] = "".join(
        f"{synset} {words}\n" for synset, (words, _) in CLASSES.items()
    ).encode()
    return _write(folder, files)


def write_folders(folder: Path, *, validation: str = "validation") -> Path:
    """Write a folder per class, and slim's descriptions."""
    files = {"imagenet_metadata.txt": _metadata()}
    for split, images in (("train", TRAIN), (validation, VALIDATION_IMAGES)):
        for name, image in images.items():
            files[f"{split}/{synset_of(name)}/{name}"] = image
    return _write(folder, files)


def _write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
