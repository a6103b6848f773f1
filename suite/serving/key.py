"""The key that a server asks for: out of the environment, and into nothing that is written.

    export MY_KEY=…
    tpubench run --workload llama-serve --server URL --api-key-env MY_KEY

It is sent to the server that was named, and to no other; no command line, file, row or message
carries it. It is never taken from a variable that nobody named: a key of one service must not
reach another because it happens to be in the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from tpubench.errors import UsageError

OPTION = "--api-key-env"
HIDDEN = "[key]"
_LONGEST = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key, and the variable that it came from."""

    variable: str
    secret: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries."""
        return {"Authorization": f"Bearer {self.secret}"}


def read(variable: str | None) -> Key | None:
    """The key in the variable of that name; None where none is named.

    UsageError where there is none. It does not repeat the name: that may be the key itself.
    """
    if variable is None:
        return None
    secret = os.environ.get(variable, "").strip() if variable else ""
    if not secret:
        raise UsageError(
            f"{OPTION} names a variable of the environment that holds the key, and the one named is"
            " not set: export NAME=KEY, then give its name"
        )
    if len(secret) > _LONGEST or not all("!" <= each <= "~" for each in secret):
        raise UsageError(f"{OPTION}: what that variable holds is no key: one word of plain ASCII")
    return Key(variable=variable, secret=secret)


def hidden(text: str, key: Key | None) -> str:
    """What a server said, without the key: it may repeat it in an error."""
    return text if key is None else text.replace(key.secret, HIDDEN)
