"""Token limits of a server whose context cannot hold the prompt and max_tokens together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from curate.generators.requests import Completion

_REFUSING = {400, 404, 413, 422}
_BODY_TOO_LARGE = 413
_CONTEXT_NAMED = re.compile(r"context[ _-]?(?:length|window|size|limit)", re.I)
_PROMPT_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|longer than the maximum|maximum (?:prompt|input|model) length"
    r"|(?:prompt|input)[^.]{0,60}(?:too (?:long|large)|exceed)|inputs?`? must have less than"
    r"|reduce the length of|token count[^.]{0,40}exceed"
    r"|exceed\w* (?:the |its )?(?:model|max|limit)|max_?seq_?len|session_len|sequence (?:is )?too long"
    r"|input length|\u957f\u5ea6"
    # Requests ask for at least one token; refusals of less are about what the prompt leaves of the context.
    r"|max_?(?:completion_?|new_?|output_?)?tokens[`'\"]? must be (?:at least 1\b|greater than 0\b|positive)"
    r"|prompt[^.]{0,60}(?:is|be|are) (?:provided and )?(?:non-)?empty|cannot be empty",
    re.I,
)
_CAP_TOO_LARGE = re.compile(
    r"max_?(?:completion_?|new_?|output_?)?tokens\b.*?(?:too (?:large|high|big)|greater|larger|exceed|maximum|at most"
    r"|must be|should be|less than|[<>])|model limit of|range of max",
    re.I | re.S,
)
# Unknown wordings: a request for one token then shows whether length was the reason.
_MAY_BE_LENGTH = re.compile(r"length|context|exceed|too (?:long|large)|\blimit|supported range|\u8d85\u8fc7", re.I)
# The size of the context as stated by vLLM, OpenAI, SGLang; llama.cpp; TGI; Mistral.
_CONTEXT = re.compile(
    r"(?:(?:context|model)[ _-](?:length|window|size|limit)(?: is| of)?(?: only)? ?\(?"
    r"|max_new_tokens`? must be <= ?)(\d+)"
    r"|(\d+) (?:tokens? )?maximum context length",
    re.I,
)
# The size of the prompt by vLLM; TGI; OpenAI; SGLang; OpenRouter; llama.cpp. "at least" = it was not fully counted.
_PROMPT = re.compile(
    r"(at least )?\b(\d+) (?:tokens )?(?:`?inputs?`? tokens|(?:in|from) (?:the |your )?(?:input|prompt|messages)"
    r"|of text input)"
    r"|\b(?:request|prompt|input) \((\d+) tokens\)",
    re.I,
)
_TOTAL = re.compile(r"requested (?:about |a total of )?(\d+) tokens", re.I)  # of prompt and completion together
_SUM = re.compile(r"\b(\d+) ?\+ ?\d+ ?> ?(\d+)")  # Anthropic: prompt + max_tokens > context
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.]*\w)")


@dataclass(frozen=True)
class StatedLimits:
    """Token counts stated in a refusal: of the context, of the prompt, maximum of a completion. None = not stated."""

    context: int | None = None
    prompt: int | None = None
    most: int | None = None


def concerns_length(status: int, message: str) -> bool:
    """Whether an answer with that HTTP status says that prompt, max_tokens or both are too long: fewer may help."""
    if status == _BODY_TOO_LARGE:
        return True
    if status >= 500:  # as proxies pass it on; other limits have other wordings
        return _CONTEXT_NAMED.search(message) is not None
    if status not in _REFUSING:
        return False
    patterns = (_CAP_TOO_LARGE, _MAY_BE_LENGTH)
    return fills_context(status, message) or any(pattern.search(message) for pattern in patterns)


def fills_context(status: int, message: str) -> bool:
    """Whether a refusal says that the prompt does not fit, or leaves no room for one token."""
    if status == _BODY_TOO_LARGE:
        return True
    matched = _CONTEXT.search(message) and _PROMPT.search(message)
    return matched is not None or _PROMPT_TOO_LONG.search(message) is not None


def stated_limits(message: str, requested: int) -> StatedLimits:
    """The lengths in a refusal of `requested` tokens, as far as they explain it.

    vLLM counts a prompt only until it is too long, and says "at least" of that partial count, which is not information.
    """
    context: int | None
    prompt: int | None
    if match := _SUM.search(message):
        context, prompt, counted = int(match[2]), int(match[1]), True
    else:
        in_context, in_prompt, total = _CONTEXT.search(message), _PROMPT.search(message), _TOTAL.search(message)
        context = int(in_context[1] or in_context[2]) if in_context else None
        prompt = int(in_prompt[2] or in_prompt[3]) if in_prompt else None
        counted = not (in_prompt and in_prompt[1])
        if total and int(total[1]) > requested:  # whatever the prompt consists of
            prompt, counted = int(total[1]) - requested, True
    if prompt is not None and context is not None and prompt < context:
        over = prompt + requested - context
        if over <= 0 or (over == 1 and not counted):
            prompt = None
    if context is None and prompt is None and not _PROMPT_TOO_LONG.search(message):
        limits = [int(digits) for digits in _NUMBER.findall(message) if len(digits) < 12]
        return StatedLimits(most=max((limit for limit in limits if 0 < limit < requested), default=None))
    return StatedLimits(context, prompt)


class Room:
    """The number of tokens that one request asks for, narrowed by the server's answers.

    asked: tokens to ask for now; at first `most`, those of the request. After a refusal, what the context leaves
    beside the prompt, if that is known: stated in the refusal, or counted in the answer to a request for one token;
    else half as many each time. A prompt that leaves no room for one token fills the context.
    """

    def __init__(self, most: int) -> None:
        self.most = self.asked = most
        self._too_many = most + 1  # the smallest refused number
        self._context: int | None = None
        self._prompt: int | None = None
        self._limit = most  # maximum of a completion, as stated by a server
        self._misled = False  # whether that limit was wrong
        self._probed = False
        self._step = 1

    @property
    def cap(self) -> int | None:
        """The number of tokens asked for, if it is less than the request's."""
        return self.asked if self.asked < self.most else None

    def within(self, context: int | None) -> None:
        """Ask for no more than the whole context: servers reject more as invalid."""
        if context is not None:
            self._context = context
            self.asked = min(self.asked, context)

    def refused(self, message: str) -> bool:
        """`asked` was too many: ask for fewer. Returns False if that is impossible."""
        if self.asked == 1:
            return False
        limits = stated_limits(message, self.asked)
        self._context = limits.context or self._context
        self._prompt = self._prompt if limits.prompt is None else limits.prompt
        if self.asked == self._limit and self._limit < self.most:
            self._limit, self._misled = self.most, True  # the stated number was about something else
        elif not self._misled:
            self._limit = limits.most or self._limit
        self._too_many = self.asked
        self.asked = self._fewer()
        return True

    def accepted(self, completion: Completion) -> bool:
        """Whether this is the completion, not a probe of one token that shows the length of the prompt."""
        if self.asked > 1 or self._too_many <= 2 or self._probed:
            return True
        self._probed = True
        self._prompt = completion.prompt_tokens or self._prompt
        self.asked = self._fewer()
        return self.asked == 1 or completion.finish_reason != "length"

    def _fewer(self) -> int:
        if self._limit < self._too_many:
            return self._limit
        if self._context is None or self._prompt is None:
            return max(1, self._too_many // 2) if self._probed else 1
        remaining = self._context - self._prompt
        if remaining >= self._too_many:
            if not self._probed:  # the prompt's length was not the only limit
                self._prompt = None
                return 1
            remaining = self._too_many - self._step  # the server reserves some tokens
            self._step *= 2
        return max(1, remaining)
