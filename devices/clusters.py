"""What clusters call each device: Slurm's gres, GKE's node labels, Ray's accelerator types.

``clusters.csv``, as of 2026-11: GKE's names are the values of ``cloud.google.com/gke-accelerator``
and ``gke-tpu-accelerator`` with the topologies of one host (GKE's documentation of GPUs and TPUs;
each was looked up in public manifests on 2026-11-28, and one that stands in none is left out),
Ray's those of ``ray.util.accelerators`` (Ray 2.60). Slurm has none of its own: a site names its
gres, and the ones here are the usual.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).with_name("clusters.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnClusters:
    """Names of a device; None where the cluster has none. gke_topologies: of one host, by chips."""

    gres: str
    gke_accelerator: str | None
    gke_topologies: Mapping[int, str]
    ray: str | None


@functools.cache
def on_clusters() -> Mapping[str, OnClusters]:
    """By canonical name of the device."""
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return {
            line["device"]: OnClusters(
                gres=line["gres"],
                gke_accelerator=line["gke_accelerator"] or None,
                gke_topologies={
                    int(chips): topology
                    for chips, topology in (
                        pair.split("=") for pair in line["gke_topologies"].split()
                    )
                },
                ray=line["ray"] or None,
            )
            for line in csv.DictReader(stream)
        }
