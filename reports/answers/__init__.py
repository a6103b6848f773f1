"""The first screen in numbers: TPU, Nvidia or contract, how sure, and what would flip it.

One builder makes them (:mod:`.build`); page, terminal, ``--json``, Markdown and PNG only render.
"""
