"""Whose a device is: TPU or GPU, how people write its name, and the colour of its maker."""

from __future__ import annotations

import functools

from tpubench.devices.sheets import AMD, GOOGLE, NVIDIA, devices

COLOURS = {GOOGLE: "blue", NVIDIA: "orange", AMD: "green"}
"""Colour name of each maker in every chart, of Okabe and Ito's palette; others are grey."""


@functools.lru_cache(maxsize=4096)
def vendor(device: str) -> str | None:
    """The maker of a device by canonical name; None for a CPU and for a name without a sheet."""
    sheet = devices().get(device)
    return None if sheet is None else sheet.vendor


def is_tpu(device: str) -> bool:
    """Whether a canonical name is a TPU's."""
    return vendor(device) == GOOGLE


def is_gpu(device: str) -> bool:
    """Whether a canonical name is that of a device with a sheet that is no TPU."""
    return vendor(device) not in {None, GOOGLE}


def colour_name(device: str) -> str:
    """The colour of the device's maker; ``grey`` for a CPU and for a name without a sheet."""
    return COLOURS.get(vendor(device) or "", "grey")


def side(device: str, *, backend: str = "") -> str:
    """What a legend calls a device: ``TPU``, ``Nvidia``, or its maker; of one without a sheet
    ``CPU`` where its ``backend`` says so."""
    maker = vendor(device)
    if maker is None:
        return "CPU" if backend == "cpu" else "other"
    return {GOOGLE: "TPU", NVIDIA: "Nvidia"}.get(maker, maker)


def label(device: str) -> str:
    """A device as people write it: ``TPU v6e``, ``NVIDIA H100 SXM``; other names as they are."""
    maker = vendor(device)
    if maker is None:
        return device
    _, _, rest = device.partition("-")
    if maker == GOOGLE:
        return f"TPU {rest.replace('-', ' ')}"
    return f"{maker} {rest.replace('-', ' ').upper()}"
