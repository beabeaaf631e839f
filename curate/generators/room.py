"""Token limits of a server whose context does not hold the prompt and max_tokens together."""

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
    # We ask for one token at least: what is too few is what a server has left after taking the prompt off.
    r"|max_?(?:completion_?|new_?|output_?)?tokens[`'\"]? must be (?:at least 1\b|greater than 0\b|positive)"
    r"|prompt[^.]{0,60}(?:is|be|are) (?:provided and )?(?:non-)?empty|cannot be empty",
    re.I,
)
_CAP_TOO_LARGE = re.compile(
    r"max_?(?:completion_?|new_?|output_?)?tokens\b.*?(?:too (?:large|high|big)|greater|larger|exceed|maximum|at most"
    r"|must be|should be|less than|[<>])|model limit of|range of max",
    re.I | re.S,
)
# Unknown wordings: a request for one token shows whether length was the reason.
_MAY_BE_LENGTH = re.compile(r"length|context|exceed|too (?:long|large)|\blimit|supported range|\u8d85\u8fc7", re.I)
# The number of tokens of the whole context: vLLM, OpenAI, SGLang; llama.cpp; TGI; Mistral.
_CONTEXT = re.compile(
    r"(?:(?:context|model)[ _-](?:length|window|size|limit)(?: is| of)?(?: only)? ?\(?"
    r"|max_new_tokens`? must be <= ?)(\d+)"
    r"|(\d+) (?:tokens? )?maximum context length",
    re.I,
)
# Those of the prompt: vLLM; TGI; OpenAI; SGLang; OpenRouter; llama.cpp. "at least" = it was not counted to its end.
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
    """Token counts in a refusal: of the context, of the prompt, and at most of a completion. None = not stated."""

    context: int | None = None
    prompt: int | None = None
    most: int | None = None


def concerns_length(status: int, message: str) -> bool:
    """Whether an answer of that HTTP status says that prompt, max_tokens or both are too much: fewer may help."""
    if status == _BODY_TOO_LARGE:
        return True
    if status >= 500:  # proxies put it so; other limits have other words
        return _CONTEXT_NAMED.search(message) is not None
    if status not in _REFUSING:
        return False
    return fills_context(status, message) or any(each.search(message) for each in (_CAP_TOO_LARGE, _MAY_BE_LENGTH))


def fills_context(status: int, message: str) -> bool:
    """Whether a refusal of one token more says that a prompt does not fit, or that there is none."""
    if status == _BODY_TOO_LARGE:
        return True
    told = _CONTEXT.search(message) and _PROMPT.search(message)
    return told is not None or _PROMPT_TOO_LONG.search(message) is not None


def stated_limits(message: str, asked: int) -> StatedLimits:
    """The lengths in a refusal of `asked` tokens, as far as they explain it.

    vLLM counts a prompt only until it is too long, and says "at least" of what just did not fit: that tells nothing.
    """
    context: int | None
    prompt: int | None
    if found := _SUM.search(message):
        context, prompt, counted = int(found[2]), int(found[1]), True
    else:
        at, of, total = _CONTEXT.search(message), _PROMPT.search(message), _TOTAL.search(message)
        context = int(at[1] or at[2]) if at else None
        prompt = int(of[2] or of[3]) if of else None
        counted = not (of and of[1])
        if total and int(total[1]) > asked:  # whatever the prompt is made up of
            prompt, counted = int(total[1]) - asked, True
    if prompt is not None and context is not None and prompt < context:
        over = prompt + asked - context
        if over <= 0 or (over == 1 and not counted):
            prompt = None
    if context is None and prompt is None and not _PROMPT_TOO_LONG.search(message):
        limits = [int(each) for each in _NUMBER.findall(message) if len(each) < 12]
        return StatedLimits(most=max((limit for limit in limits if 0 < limit < asked), default=None))
    return StatedLimits(context, prompt)


class Room:
    """The number of tokens that one request asks for, narrowed by the answers of servers.

    asked: tokens to ask for now; at first `most`, those of the request. After a refusal it is what the context leaves
    beside the prompt, if that is known: stated in the refusal, or counted in the answer to a request for one token;
    else half as many each time. A prompt that leaves no room for one token fills the context.
    """

    def __init__(self, most: int) -> None:
        self.most = self.asked = most
        self._too_many = most + 1  # the fewest that were refused
        self._context: int | None = None
        self._prompt: int | None = None
        self._limit = most  # of a completion, as stated by a server
        self._misled = False  # by such a limit
        self._probed = False
        self._step = 1

    @property
    def cap(self) -> int | None:
        """Tokens that are asked for, if fewer than those of the request."""
        return self.asked if self.asked < self.most else None

    def within(self, context: int | None) -> None:
        """Ask for no more than the whole context, which servers refuse as a mistake."""
        if context is not None:
            self._context = context
            self.asked = min(self.asked, context)

    def refused(self, message: str) -> bool:
        """`asked` was too many: ask for fewer. False if that is not possible."""
        if self.asked == 1:
            return False
        limits = stated_limits(message, self.asked)
        self._context = limits.context or self._context
        self._prompt = self._prompt if limits.prompt is None else limits.prompt
        if self.asked == self._limit and self._limit < self.most:
            self._limit, self._misled = self.most, True  # that number was about something else
        elif not self._misled:
            self._limit = limits.most or self._limit
        self._too_many = self.asked
        self.asked = self._fewer()
        return True

    def accepted(self, completion: Completion) -> bool:
        """Whether this is the completion, and not a probe of one token that shows the length of the prompt."""
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
        left = self._context - self._prompt
        if left >= self._too_many:
            if not self._probed:  # that was not all the prompt has
                self._prompt = None
                return 1
            left = self._too_many - self._step  # the server keeps some for itself
            self._step *= 2
        return max(1, left)
