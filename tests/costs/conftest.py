"""Property tests here check answers, not speed: the first example pays for importing SciPy.

HYPOTHESIS_PROFILE=costs-long tries ten thousand examples each.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("costs", deadline=None)
settings.register_profile("costs-long", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "costs"))
