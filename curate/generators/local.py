"""A generator that samples from a transformers model in this process, for small models and checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curate.component import Component
from curate.devices.distributed import local_device, named_device
from curate.devices.precision import resolve_precision
from curate.generators.chat import Template, tokenizer_mode
from curate.generators.decoding import decode
from curate.generators.requests import Queue
from curate.models.loading import identify, load_model, load_tokenizer


class Transformers(Component):
    """A transformers model as a generator. For a model that is loaded already see `curate.generators.decoding.sample`.

    model: hub id, folder or GGUF file.
    batch_size: requests per batch.
    device: "cpu", "cuda", "cuda:1"; None = a GPU if there is one.
    precision: of weights and arithmetic; "auto" = bfloat16 where the hardware multiplies it fast.
    template: "chat" = messages go through the chat template of the tokenizer, "plain" = as text with blank lines
        between; "auto" = "chat" where there is one. A prompt that is text stays as it is.
    """

    model: str
    batch_size: int = Field(default=16, ge=1)
    device: str | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    template: Template = "auto"

    def identity(self) -> str:
        """The model (a local one by its content, one from the hub by its commit) and its template."""
        return f"{identify(self.model)} {tokenizer_mode(load_tokenizer(self.model), self.template)}"

    def serve(self, queue: Queue) -> None:
        """See `curate.protocols.Generator`."""
        first = queue.take(self.batch_size)
        if not first:
            return  # no requests: do not load the model
        tokenizer = load_tokenizer(self.model)
        mode = tokenizer_mode(tokenizer, self.template)
        device = local_device() if self.device is None else named_device(self.device)
        model = load_model(self.model).to(device, resolve_precision(self.precision, device))
        decode(model, tokenizer, queue, mode, self.batch_size, first)
