"""What tests of pages need: the real browser."""

from __future__ import annotations

import pytest

from edgeqwt.web import chromium

needs_chromium = pytest.mark.skipif(chromium.program() is None, reason="no Chromium: Debian's package chromium has it")
