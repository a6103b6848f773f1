"""JobSets for Kubernetes, one for each kind of node, queued by Kueue: ``kubectl apply -f FILE``.

Each cell is an index of an indexed Job, so that one which fails is tried again alone and stops no
other. Node labels are GKE's; a TPU cell takes the slice of one host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.suite.executors.jobs import Group, command

SPEC_FOLDER, STORE_FOLDER = "/sweep", "/store"
RETRIES = 2
"""Of each cell, for a node that goes away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What only its owner knows. queue: Kueue's local queue. claim: volume that is the store."""

    image: str
    queue: str | None
    claim: str | None
    at_once: int


def files(
    name: str,
    groups: list[Group],
    cluster: Cluster,
    *,
    spec: str,
    spec_file: Path | None,
    store: str,
    device: str | None,
) -> dict[str, str]:
    """File name and YAML of each group."""
    import yaml

    dumper_of_texts: Any = type("Dumper", (yaml.SafeDumper,), {})

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    dumper_of_texts.add_representer(str, text)  # of several lines, as they are
    listed = job_sets(
        name, groups, cluster, spec=spec, spec_file=spec_file, store=store, device=device
    )
    return {
        file: yaml.dump_all(objects, Dumper=dumper_of_texts, sort_keys=False, width=100)
        for file, objects in listed
    }


def job_sets(
    name: str,
    groups: list[Group],
    cluster: Cluster,
    *,
    spec: str,
    spec_file: Path | None,
    store: str,
    device: str | None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """File name and objects of each group. spec_file: to be carried along; None for a sweep that
    ships with tpubench.
    """
    for group in groups:
        full = object_name(f"tpubench-{name}-{group.name}")
        where = spec if spec_file is None else f"{SPEC_FOLDER}/{spec_file.name}"
        pod = _pod(full, group, cluster, command(where, store, device), carried=spec_file)
        objects = [_job_set(full, group, cluster, pod)]
        if spec_file is not None:
            text = spec_file.read_text(encoding="utf-8")
            config = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": full},
                "data": {spec_file.name: text},
            }
            objects.insert(0, config)
        yield f"{name}-{group.name}.yaml", objects


def impossible(group: Group) -> str | None:
    """Why no node pool of GKE could run it, in words; None where one could."""
    if group.kind == "cpu":
        return None
    names = group.names
    if group.kind == "tpu":
        if names is None:
            return "Kubernetes wants to know which TPU: name a device, or --device"
        if group.chips not in names.gke_topologies:
            hosts = ", ".join(map(str, names.gke_topologies)) or "none"
            return f"one host of GKE has {hosts} chips of {group.device}, not {group.chips}"
    if names is not None and names.gke_accelerator is None:
        return f"GKE has no node pools of {group.device}"
    return None


def object_name(text: str) -> str:
    """A name that Kubernetes takes (RFC 1123), short enough for the pods that follow from it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def _job_set(full: str, group: Group, cluster: Cluster, pod: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": full}
    if cluster.queue is not None:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": cluster.queue}
    job = {
        "completionMode": "Indexed",
        "completions": len(group.ids),
        "parallelism": min(cluster.at_once, len(group.ids)),
        "backoffLimitPerIndex": RETRIES,
        "template": {"spec": pod},
    }
    replicated = {"name": "cells", "replicas": 1, "template": {"spec": job}}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {"replicatedJobs": [replicated]},
    }


def _pod(
    full: str, group: Group, cluster: Cluster, run: str, *, carried: Path | None
) -> dict[str, Any]:
    ids = " ".join(group.ids)
    script = f'set -eu\nset -- {ids}\nshift "$JOB_COMPLETION_INDEX"\ncell=$1\nexec {run}\n'
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if carried is not None:
        volumes.append({"name": "sweep", "configMap": {"name": full}})
        mounts.append({"name": "sweep", "mountPath": SPEC_FOLDER, "readOnly": True})
    if cluster.claim is not None:
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": cluster.claim}})
        mounts.append({"name": "store", "mountPath": STORE_FOLDER})
    container: dict[str, Any] = {
        "name": "cell",
        "image": cluster.image,
        "command": ["/bin/sh", "-c", script],
    }
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if mounts:
        container["volumeMounts"], pod["volumes"] = mounts, volumes
    names = group.names
    if group.kind == "tpu" and names is not None:
        container["resources"] = {"limits": {"google.com/tpu": str(group.chips)}}
        pod["nodeSelector"] = {
            "cloud.google.com/gke-tpu-accelerator": names.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": names.gke_topologies[group.chips],
        }
    elif group.kind == "gpu":
        container["resources"] = {"limits": {"nvidia.com/gpu": str(group.chips)}}
        if names is not None:
            pod["nodeSelector"] = {"cloud.google.com/gke-accelerator": names.gke_accelerator}
    return pod
