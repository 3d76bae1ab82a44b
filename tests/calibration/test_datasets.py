from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from edgeqwt.calibration.samples import InputSpec, Samples
from edgeqwt.calibration.sources import open_samples

IMAGES, CLASSES = torch.arange(24.0).reshape(4, 1, 2, 3), torch.tensor([3, 1, 2, 0])
SPEC = InputSpec("image", (1, 1, 2, 3), "float32")


def checked(samples: Samples) -> None:
    found = list(samples)
    assert [set(sample) for sample in found] == [{"image"}] * 4
    assert (np.concatenate([sample["image"] for sample in found]) == IMAGES.numpy()).all()


class Endless(Dataset[tuple[torch.Tensor, int]]):
    """Raises nothing past its end, as many data sets do."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return IMAGES[i % 4], int(CLASSES[i % 4])


class Streamed(IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        for image, label in zip(IMAGES, CLASSES, strict=True):
            yield {"image": image, "label": int(label)}


class Table:
    """What the package `datasets` calls a Dataset: rows as dicts of Python values, texts among them."""

    column_names = ("image", "label", "file")
    features = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for i in range(4):
            yield {"image": IMAGES[i].tolist(), "label": int(CLASSES[i]), "file": f"{i}.png"}


@pytest.mark.parametrize(
    "source",
    [
        TensorDataset(IMAGES, CLASSES),
        TensorDataset(IMAGES),
        Endless(),
        Streamed(),
        Table(),
        DataLoader(TensorDataset(IMAGES, CLASSES), batch_size=3),
        DataLoader(Endless(), batch_size=1),
    ],
    ids=["pairs", "tensors", "endless", "streamed", "table", "batches", "single"],
)
def test_rows_become_samples_of_one_and_labels_stay_out(source: Any) -> None:
    checked(open_samples(source, [SPEC]))
