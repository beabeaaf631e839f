"""What draws completions from a language model: a vLLM server, or transformers in this process."""

from curate.generators.local import Transformers
from curate.generators.vllm import VLLMServer

__all__ = ["Transformers", "VLLMServer"]
