"""MLPerf Tiny image classification and visual wake words: our int8 files beside MLPerf's own."""

from __future__ import annotations

import numpy as np
from common import Array, cifar10, figures, outputs, shared

import edgeqwt
from edgeqwt.calibration.images import ImageOptions, find_images, read_image
from edgeqwt.graph import flatbuffer


def image_classification() -> tuple[Array, Array, Array | None]:
    """512 calibration images, 10 000 test images, their labels; raw pixel values, NHWC."""
    data = cifar10()
    images, test = data["calibration_images"][:512], data["test_images"]
    return images.astype(np.float32), test.astype(np.float32), data["test_labels"]


def visual_wake_words() -> tuple[Array, Array, Array | None]:
    """Every third photograph to test on, the others to calibrate on; pixels / 255, NHWC."""
    options = ImageOptions(size=(96, 96), crop="none", layout="NHWC")
    photos = find_images(shared() / "data" / "photos")
    images = np.concatenate([read_image(path, options) for path in photos])
    test = np.arange(len(images)) % 3 == 2
    return images[~test], images[test], None


def main() -> None:
    """Prints the table."""
    folder = shared() / "models" / "mlperf_tiny"
    for name, load in (("image_classification", image_classification), ("visual_wake_words", visual_wake_words)):
        calibration, test, labels = load()
        files = {kind: folder / f"{name}_{kind}.tflite" for kind in ("float32", "int8")}
        images = [image[None] for image in test]
        reference = outputs(flatbuffer.read(files["float32"]), images)
        official = flatbuffer.read(files["int8"])
        (tensor,) = flatbuffer.read(files["float32"]).inputs
        samples = {flatbuffer.read(files["float32"]).tensors[tensor].name: calibration}
        built = edgeqwt.build(files["float32"], calibration=samples)
        repaired = edgeqwt.compensate_file(files["int8"], files["float32"], calibration=samples)
        print(f"{name}: {len(calibration)} calibration and {len(test)} test images; accuracy / agreement / SQNR")
        rows = {
            "MLPerf's int8": official,
            "the same, compensated": repaired.graph,
            "edgeqwt, plain": built.uncompensated,
            "edgeqwt": built.graph,
        }
        for row, graph in rows.items():
            print(f"  {row:22} {figures(outputs(graph, images), reference, labels)}")


if __name__ == "__main__":
    main()
