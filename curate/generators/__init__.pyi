from .local import Transformers as Transformers
from .vllm import VLLMServer as VLLMServer
