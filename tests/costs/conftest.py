"""Property tests here check answers, not speed: the first example pays for importing SciPy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("costs", deadline=None)
settings.load_profile("costs")
