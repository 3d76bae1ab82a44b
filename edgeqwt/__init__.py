"""edgeqwt: PyTorch to proved, compensated full-integer TFLite models.

The public API; each function is imported on first use, so that `import edgeqwt` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeqwt.api import (
        bench_files,
        build,
        check_file,
        compare_files,
        compensate_file,
        evaluate_files,
        inspect_file,
        list_targets,
    )

__all__ = [
    "bench_files", "build", "check_file", "compare_files", "compensate_file", "evaluate_files", "inspect_file",
    "list_targets",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        from edgeqwt import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgeqwt' has no attribute {name!r}")
