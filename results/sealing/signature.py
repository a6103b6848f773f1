"""Signatures by OpenSSH: ``ssh-keygen -Y``, which knows keys in files, agents and hardware.

What is signed stays as it is; the signature lies beside it. Who may sign is said by a file of
*allowed signers*, as in git: lines ``owner@example.org ssh-ed25519 AAAA…``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tpubench.errors import UsageError

NAMESPACE = "tpubench-store"
"""A signature made for another purpose is none of ours."""
_TIMEOUT_S = 60.0


class NotSignedError(Exception):
    """A signature that does not hold. One line."""


def require(key: Path) -> None:
    """UsageError for a key that is not there."""
    if not key.is_file():
        raise UsageError(f"--key {key} is no file: ssh-keygen -t ed25519 -f {key} makes one")


def sign(data: bytes, key: Path) -> bytes:
    """The signature of ``data`` by a private key, or by the agent's key of a public one.

    UsageError when ``ssh-keygen`` cannot sign. It may ask for a passphrase on the terminal.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        message = Path(name, "message")
        message.write_bytes(data)
        command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(message)]
        done = _run(command)
        signature = message.with_name("message.sig")
        if done.returncode != 0 or not signature.is_file():
            raise UsageError(f"cannot sign with {key}: {_last_line(done)}")
        return signature.read_bytes()


def signer(data: bytes, signature: Path, allowed: Path) -> str:
    """Which of the allowed signers signed ``data``. NotSignedError when none of them did."""
    principals = _run(
        ["ssh-keygen", "-Y", "find-principals", "-s", str(signature), "-f", str(allowed)]
    )
    principal = principals.stdout.decode("utf-8", "replace").partition("\n")[0].strip()
    if principals.returncode != 0 or not principal:
        raise NotSignedError("its key is not one of the allowed signers")
    checked = _run(
        [
            "ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", principal,
            "-n", NAMESPACE, "-s", str(signature),
        ],
        data,
    )  # fmt: skip
    if checked.returncode != 0:
        raise NotSignedError("its signature does not hold")
    return principal


def key_of(data: bytes, signature: Path) -> str:
    """The fingerprint of the key that signed ``data``, whoever has it. NotSignedError."""
    checked = _run(
        ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(signature)], data
    )
    said = checked.stdout.decode("utf-8", "replace").split()
    fingerprint = next((word for word in said if word.startswith("SHA256:")), None)
    if checked.returncode != 0 or fingerprint is None:
        raise NotSignedError("its signature does not hold")
    return fingerprint


def _run(command: list[str], data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, input=data, capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except FileNotFoundError:
        raise UsageError("signatures need ssh-keygen: install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{' '.join(command[:3])} did not end: is a passphrase needed?") from None


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with {done.returncode}"
