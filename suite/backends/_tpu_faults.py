"""What a TPU runtime prints when it dies, and what that means for the person at the keyboard.

The first three were produced with libtpu 0.0.52 on a machine without a TPU; libtpu ends the process
(SIGABRT) instead of raising. Memory is told in XLA's own words by every PJRT plugin.
"""

from __future__ import annotations

SYMPTOMS: tuple[tuple[str, str], ...] = (
    (
        r"multi-process lockfile|libtpu_lockfile|TPU is already in use",
        "another process holds the TPU: end it, or remove /tmp/libtpu_lockfile if none does",
    ),
    (
        r"No jellyfish device found|Device or resource busy|/dev/(?:accel|vfio).*No such",
        "no usable TPU on this machine",
    ),
    (
        r"metadata\.google\.internal|Could not fetch metadata|instance metadata",
        "the cloud's metadata server does not answer:"
        " set TPU_SKIP_MDS_QUERY=1 and TPU_ACCELERATOR_TYPE",
    ),
    (r"RESOURCE_EXHAUSTED|CompileTimeHbmOom|exceeds available HBM", "out of memory"),
    (
        r"DATA_LOSS|device has been lost|TPU .*(?:halted|unhealthy)|HBM .*uncorrectable",
        "the TPU was lost",
    ),
    (r"(aten::[\w.]+)' is not implemented for", "an operator is not implemented for the device"),
)

SILENCE = (
    "the TPU did not answer: another process may hold it, or the cloud's metadata server is silent"
    " (TPU_SKIP_MDS_QUERY=1 and TPU_ACCELERATOR_TYPE answer in its place)"
)
