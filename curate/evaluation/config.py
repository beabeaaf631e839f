"""Settings of an evaluation: evaluation sets, prompts, and how answers are generated and graded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from curate.component import Component, Consent
from curate.dataset_reference import Reading, named_dataset
from curate.errors import InputError
from curate.generators.requests import Sampling
from curate.generators.vllm_arguments import ARGUMENTS, COMMAND
from curate.recipe import construct, grader_from

Style = Literal["auto", "template", "chat", "question"]

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,99}")
_NAMED = re.compile(r"([A-Za-z0-9][\w.+-]*)=(.+)", re.DOTALL)


class EvaluationSet(Reading):
    """Questions with their answers: where they are stored, and how they are read.

    data: anything that `curate.read` accepts. name: of its folder in the results; None = file name without its ending.
    The other options: as for `curate.read`; the sample of `limit` is drawn with `seed`.
    level: column with the difficulty of each row; None = `level`, if there is such a column.
    grader: of `curate.graders` or your own, by name or as an object; None = that of the evaluation, else what fits.
    """

    added: ClassVar[frozenset[str]] = Reading.added | {"grader"}

    data: Any
    name: str | None = None
    seed: int = 0
    level: str | None = None
    grader: Any = None

    @field_validator("grader", mode="before")
    @classmethod
    def _is_grader(cls, grader: Any) -> Any:
        return grader_from(grader, "grader")

    @field_validator("name")
    @classmethod
    def _is_folder_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a folder; use letters, digits, '-', '_', '+' and '.'")
        return name

    @property
    def title(self) -> str:
        """`name`, or what the data is called."""
        if self.name is not None:
            return self.name
        if not isinstance(self.data, str | Path):
            raise InputError("an evaluation set in memory needs a name: EvaluationSet(data=..., name=...)")
        path = Path(self.data)
        stem = path.name.partition(".")[0] if path.is_file() else path.name
        return re.sub(r"[^\w.+-]+", "-", stem).strip("-.") or "evaluation"


class Evaluation(Component):
    """How answers are prompted, generated and graded.

    style: text around a question. "template" = the training template, see below; "chat" = the model's chat template;
        "question" = `Question: ...` and `Answer:` on separate lines. "auto" = "template" if that is given or known,
        else "question".
    template: the template of style "template": "alpaca" or "plain". None = the one that the model was trained with,
        according to its run or folder, else "alpaca".
    shots: number of solved examples before every question, the same for all, drawn with `seed` from `shots_from`; rows
        whose question is evaluated are excluded.
    samples: answers per question; temperature 0 (greedy) gives one. top_p: see
        `curate.generators.requests.Sampling`.
    max_tokens: maximum tokens of an answer. stop: texts that end an answer, besides those of the style.
    max_length: maximum tokens of question and reference completion together for scoring; shots are added to it.
    grader: decides whether an answer is right, for sets that name no grader. None = the one that fits a set's rows.
    run_programs: whether a grader may run programs that the model writes, in a sandbox.
    generate, nll: whether answers are generated and graded, and whether reference completions are scored.
    seed: of shots and samples.
    generator: "transformers" = in this process; "vllm" = a server, started from the executable `vllm` (with
        `vllm_arguments`) or running at `url`.
    batch_size: answers generated at a time in this process. precision: of generation and scoring in this process.
    revision, trust_remote_code: of a model from the hub.

    Settings that only affect speed are not part of the protocol by which evaluations are compared.
    """

    version: ClassVar[int] = 2
    added: ClassVar[frozenset[str]] = frozenset(["grader", "run_programs"])
    style: Style = Field(
        default="auto",
        description="text around a question: the training template, the chat template, or Question: and Answer: "
        "(the training template where it is known; question for other models)",
    )
    template: Literal["alpaca", "plain"] | None = Field(
        default=None, description="the training template (what the model was trained with, else alpaca)"
    )
    shots: int = Field(default=0, ge=0, le=64, description="solved examples before each question")
    shots_from: EvaluationSet | None = None
    samples: int = Field(default=1, ge=1, description="answers per question")
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="0 = greedy")
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="nucleus sampling: keep the smallest set of tokens with this total probability",
    )
    max_tokens: int = Field(default=512, ge=1, description="maximum tokens of an answer")
    stop: tuple[str, ...] = Field(default=(), description="text that ends an answer (repeatable)")
    max_length: int = Field(default=1024, ge=8, description="tokens of question and completion scored")
    grader: Any = None
    run_programs: bool = Field(default=False, description="run programs that the model writes, in a sandbox, to grade")
    generate: bool = True
    nll: bool = True
    seed: int = Field(default=0, description="seed of shots, samples and --limit")
    generator: Literal["transformers", "vllm"] = Field(default="transformers", description="what generates answers")
    url: str | tuple[str, ...] | None = Field(default=None, description="vLLM server with the model; repeatable")
    vllm: str = Field(default="vllm", description="vllm executable to start a server with (the one on the PATH)")
    vllm_arguments: tuple[str, ...] = ()
    batch_size: int = Field(default=32, ge=1, description="answers at a time, without vLLM")
    precision: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="of arithmetic, without vLLM")
    revision: str | None = Field(default=None, description="revision of a model from the hub")
    trust_remote_code: bool = Field(default=False, description="let its repository run its own code here")
    consents: ClassVar[Mapping[str, Consent]] = {
        "vllm": COMMAND,
        "vllm_arguments": ARGUMENTS,
        "run_programs": Consent(("--run-programs",)),
    }

    @field_validator("grader", mode="before")
    @classmethod
    def _is_grader(cls, grader: Any) -> Any:
        return grader_from(grader, "grader")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not (self.generate or self.nll):
            raise ValueError("there is nothing to evaluate; leave generate or nll on")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples of temperature 0 are all the same; set a temperature such as 0.7")
        if self.shots and self.shots_from is None:
            raise ValueError(f"{self.shots} shots need examples; name their data with shots_from")
        if self.shots_from is not None and not self.shots:
            raise ValueError("shots_from is given but no number of shots; set shots")
        return self

    def sampling(self, stop: tuple[str, ...]) -> Sampling:
        """Sampling parameters of all requests; `stop`: the stop texts of the prompt style."""
        stops = tuple(dict.fromkeys((*stop, *self.stop)))
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens, stop=stops)


def parse_set(text: str, option: str, allowed: tuple[str, ...] = ()) -> EvaluationSet:
    """Parse an evaluation set of the command line: DATA, NAME=DATA, or reading options as a YAML mapping.

    allowed: consent for its grader, see `curate.recipe.decode`.
    """
    name, data = None, text
    match = _NAMED.fullmatch(text)
    if match is not None and not os.path.exists(text):
        name, data = match[1], match[2]
    described = named_dataset(data, option)
    options = dict(described) if isinstance(described, dict) else {"data": described}
    if name is not None:
        options["name"] = name
    if "grader" in options:
        options["grader"] = grader_from(options["grader"], f"{option} {text}: grader", allowed)
    evaluation_set: EvaluationSet = construct(EvaluationSet, options, f"{option} {text}")
    return evaluation_set
