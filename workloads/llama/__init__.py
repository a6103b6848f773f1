"""Llama-family inference: one program, and the workloads that time it at different shapes."""

from tpubench.workloads.llama.decode import LlamaDecode as LlamaDecode
from tpubench.workloads.llama.infer import LlamaInfer as LlamaInfer
from tpubench.workloads.llama.long_context import LongContext as LongContext
from tpubench.workloads.llama.prefill import LlamaPrefill as LlamaPrefill
