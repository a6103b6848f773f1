"""``tpubench …`` as typed, but every backend warms up and measures for a moment."""

from tpubench import cli
from tpubench.suite.backend import Backend
from tpubench.suite.timing import Pace

Backend.pace = Pace(  # type: ignore[method-assign, assignment]
    warm_up_s=0.05, window_s=0.05, most_warm_up_s=1.0, latency_s=0.0
)
cli.main()
