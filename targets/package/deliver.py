"""The package of a build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeqwt.calibration.samples import Samples
from edgeqwt.calibration.validate import validated
from edgeqwt.pipeline import BuildResult
from edgeqwt.profile import TargetProfile
from edgeqwt.target.package.details import of_build
from edgeqwt.target.package.package import package
from edgeqwt.verify.feeds import feeds

VECTORS = 4  # samples that become test vectors


def deliver(
    result: BuildResult, samples: Samples, folder: Path, board: TargetProfile | None = None, compress: bool = False
) -> BuildResult:
    """Makes a folder with the package that the build's target names.

    Args:
        result: of the build.
        samples: calibration samples; the first ones become test vectors.
        folder: the folder; its parent exists.
        board: the target, without the limits that the user's budget replaces; None: the build's target.
        compress: whether weights are behind lookup tables in the firmware's model.

    Returns:
        The result with what was written, and sentences that the user must see.

    Raises:
        EdgeqwtError: as `package`.
    """
    folder.mkdir()
    groups = result.groups.found if result.groups is not None else ()
    samples = groups[0].samples if groups else samples  # the file's first signature serves these
    some = validated(samples.head(VECTORS), [binding.spec for binding in result.model.inputs])
    vectors, profile = feeds(result.model, result.file, some), board or result.target
    notes = package(result.file, profile, folder, vectors, of_build(result), compress)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return replace(result, notes=notes, package=tuple(files))
