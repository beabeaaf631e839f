"""Sampling parameters in a request to a server, and servers that refuse some of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from curate.generators.payloads import Served, error_message
from curate.generators.requests import Completion, Request
from curate.seeds import derive_seed

# vLLM takes missing options from the model's own generation_config, so neutral values are sent too.
_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
# How servers name a parameter: in quotes, after a colon, or with what it must be. seed and stop are also plain words.
_AS_PARAMETER = r"""['"`\u201c]{name}['"`\u201d]|: ?{name}\b|\b{name}(?=:| (?:is|are|was|does|must|may|can|has)\b)"""
_NOT_TAKEN = re.compile(
    r"unsupported|not support|n't support|unrecognized|unknown|unexpected|extra (?:inputs?|fields?)|forbidden"
    r"|deprecated|not (?:allowed|permitted|accepted|available|configurable)|only (?:the default|1\b|be)|fixed"
    r"|cannot (?:both )?be (?:both )?(?:set|specified|used|changed|modified)"
    r"|(?:must|may|has to|should) (?:only )?be (?:set to )?(?:unset|null|omitted|(?:the )?default|1(?:\.0+)?(?![\d.])"
    r"(?! (?:and|or|to)\b))",
    re.I,
)
_RANGE = re.compile(
    r"between|\brange\b|at (?:most|least)|(?:less|greater|more|larger|smaller) than|above|below|[<>\u2264\u2265]"
    r"|too (?:large|high|low|small|big)|positive",
    re.I,
)
_BELOW_ONE = re.compile(r"(?:<|less than|smaller than|below) ?1(?:\.0+)?(?![\d.]*\d)", re.I)


def sampling_parameters(request: Request, served: Served) -> dict[str, Any]:
    """The fields of a request that set how a completion is sampled."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": derive_seed(request.seed, request.index),
    }
    if served.vllm:
        fields |= _NEUTRAL
    if sampling.top_k:
        fields["top_k"] = sampling.top_k
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    return fields


def refused_parameter(status: int, content: bytes, sent: Mapping[str, Any]) -> str | None:
    """The name of a sent sampling parameter that a server does not accept at all, or only with its own value.

    A value out of range counts as missing: another one would be used. A top_p of 1 says nothing: it is left out where
    one below 1 is wanted.
    """
    if status not in (400, 422):
        return None
    message = error_message(content)
    parameters = [name for name in sent if re.search(_AS_PARAMETER.format(name=name), message)]
    if (parameter := _error_parameter(content)) in sent:
        parameters = [str(parameter)]
    # Of two that cannot be given together, the one that changes nothing comes first.
    parameters.sort(key=lambda name: sent[name] != 1)
    not_taken = _NOT_TAKEN.search(message) and not _RANGE.search(message)
    needless = ["top_p"] if sent.get("top_p") == 1 and _BELOW_ONE.search(message) else []
    return next((name for name in parameters if not_taken or name in needless), None)


def setting(name: str, value: Any) -> tuple[str, float | None]:
    """The refused setting: only the name of a parameter that differs by request (a seed), else name and value."""
    return name, None if name in ("seed", "stop") else value


def _error_parameter(content: bytes) -> str | None:
    """The parameter that an error response is about, if it says so outside of its message."""
    try:
        response = json.loads(content)
        error = response.get("error", response)
        parameter = error["param"] if error.get("param") else error["detail"][0]["loc"][-1]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return parameter if isinstance(parameter, str) else None


def without_stops(completion: Completion, stops: Sequence[str]) -> Completion:
    """The completion, ended at stop texts as a server would that supports them."""
    ends = [place for stop in stops if (place := completion.text.find(stop)) >= 0]
    return replace(completion, text=completion.text[: min(ends)], finish_reason="stop") if ends else completion


def count_refused_parameters(requests: Iterable[Request], completions: Iterable[Completion]) -> Counter[str]:
    """How many completions were drawn without a parameter that the server refused, keyed by parameter and value:
    "temperature=0"."""
    counts: Counter[str] = Counter()
    for request, completion in zip(requests, completions, strict=True):
        values = request.sampling.model_dump(include=set(completion.refused_parameters))
        counts.update(f"{name}={values[name]:g}" if name in values else name for name in completion.refused_parameters)
    return counts


def refused_parameters_warning(counts: Mapping[str, int]) -> str | None:
    """A warning on completions drawn without some parameters; None if there are none."""
    if not counts:
        return None
    names = ", ".join(f"{name} ({count:,} of them)" for name, count in sorted(counts.items()))
    text = f"the server does not take every parameter of sampling: completions were drawn without {names}"
    if "temperature=0" in counts:
        return f"{text}; they are random draws, not the most likely text, and vary from one run to the next"
    return f"{text}; they were drawn by its own values"
