"""One architecture, many spellings."""

from __future__ import annotations

import re


def model_key(name: str) -> str:
    """Spellings of one architecture as one key: ``LLAMA3_70B`` and ``llama3.1-70b`` are one shape.

    Fine-tuning variants (``(SFT)``, ``(LoRA)``) are other work and stay apart.
    """
    text = re.sub(r"\(w/o? mtp\)", "", name.lower())
    text = text.rpartition("/")[2]
    text = re.sub(r"llama[-_ ]?3(?:\.[0-9])?[-_ ]", "llama3:", text)
    text = re.sub(r"[-_ ](?:instruct|chat|it|hf)\b", "", text)
    return re.sub(r"[-_ ]", "", text)
