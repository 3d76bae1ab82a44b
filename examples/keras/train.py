"""Trains a small CNN in Keras on handwritten digits, and then by TensorFlow's model optimization toolkit.

It runs where TensorFlow is: `python train.py FOLDER` reads FOLDER/digits.npz and leaves float.h5, trained.h5 (with
quantization), pruned.h5, clustered.h5 and scores.json there. Not .keras: the toolkit's layers cannot be read from that.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # the toolkit works with Keras 2
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tf_keras import layers

SPARSITY, CLUSTERS = 0.6, 16


def network() -> Any:
    """A convolution, a depthwise-separable one, and a dense layer."""
    return keras.Sequential([
        layers.Input((8, 8, 1), name="image"),
        layers.Conv2D(16, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.Conv2D(32, 1, use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.GlobalAveragePooling2D(), layers.Dense(10),
    ])  # fmt: skip


def main(folder: Path, epochs: int) -> None:
    """Trains all four."""
    with np.load(folder / "digits.npz") as archive:
        data = {name: archive[name] for name in archive.files}
    scores: dict[str, float] = {}

    def trained(name: str, model: Any, rounds: int, callbacks: tuple[Any, ...] = (), strip: Any = lambda m: m) -> Any:
        """Trains a model, takes off what training needed, saves it and writes down how good it is."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(data["images"], data["labels"], batch_size=32, epochs=rounds, verbose=0, callbacks=list(callbacks))
        model = strip(model)
        found = model.predict(data["test_images"], verbose=0).argmax(1)
        scores[name] = float((found == data["test_labels"]).mean())
        model.save(folder / f"{name}.h5")
        return model

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    base = trained("float", network(), 3 * epochs)
    trained("trained", tfmot.quantization.keras.quantize_model(base), epochs)
    pruning, clustering = tfmot.sparsity.keras, tfmot.clustering.keras
    pruned = pruning.prune_low_magnitude(copied(base), pruning.ConstantSparsity(SPARSITY, 0, frequency=10))
    trained("pruned", pruned, epochs, (pruning.UpdatePruningStep(),), pruning.strip_pruning)
    start = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
    clustered = clustering.cluster_weights(copied(base), number_of_clusters=CLUSTERS, cluster_centroids_init=start)
    trained("clustered", clustered, epochs, strip=clustering.strip_clustering)
    (folder / "scores.json").write_text(json.dumps(scores), "utf-8")


def copied(model: Any) -> Any:
    """Another model with the same weights: the toolkit's wrappers train those of the layers that they are given."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
