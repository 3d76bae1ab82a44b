"""The package of a build."""

from __future__ import annotations

from pathlib import Path

from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.validate import validated
from edgeqwt.engine import feeds
from edgeqwt.pipeline import BuildResult
from edgeqwt.targets.package.details import of_build
from edgeqwt.targets.package.package import package

FOLDER = "package"
VECTORS = 4  # samples that become test vectors


def deliver(result: BuildResult, samples: Samples, folder: Path) -> tuple[str, ...]:
    """Writes the package that the build's target names into a folder "package".

    Args:
        result: of the build.
        samples: calibration samples; the first ones become test vectors.
        folder: of the build; exists.

    Returns:
        Sentences that the user must see.

    Raises:
        EdgeqwtError: as `package`.
    """
    place = folder / FOLDER
    place.mkdir()
    some = validated(samples.head(VECTORS), [binding.spec for binding in result.model.inputs])
    return package(result.graph, result.target, place, feeds(result.model, result.graph, some), of_build(result))
