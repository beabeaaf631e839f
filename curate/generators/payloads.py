"""JSON payloads of OpenAI-compatible servers: encode requests; decode completions, models and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from curate.console.formatting import printable_line
from curate.generators.chat import Mode, as_text
from curate.generators.requests import Completion, Request

LONGEST_MESSAGE = 2_000
OTHER_CAP = "max_completion_tokens"
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_MOST_TOKENS = 2**31  # larger counts are not credible
_LONGEST_TOKEN = 128  # characters; vocabularies have runs of that many spaces, and nothing longer
_TOLERATED = 2  # times max_tokens: some servers count with a tokenizer that is not the model's
_FINISH: dict[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "stop",
    "function_call": "stop",
}
_TOOLS_NAMED = re.compile(r"\btools?\b|tool[_ -](?:choice|call|use)|function[_ -]call|--jinja", re.I)
_PAGE_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.I | re.S)


@dataclass(frozen=True)
class Served:
    """A model as a server offers it. name: of the model in requests; vllm: whether vLLM serves it, which has more
    options; context: maximum number of tokens of prompt and completion, if the server states it."""

    name: str
    vllm: bool = False
    context: int | None = None


@dataclass(frozen=True)
class Answer:
    """A completion as a server returned it. model: the one it names, if any; counted: whether it stated the number of
    tokens; cut: whether the text was far longer than allowed and was truncated here."""

    completion: Completion
    model: str | None
    counted: bool
    cut: bool = False


def find_model(model: str, listed: Any) -> Served | None:
    """The entry for `model` in a /v1/models answer, by its full name or last part; None if there is none."""
    entries = listed.get("data") if isinstance(listed, dict) else None
    for name in (model, model.rstrip("/").rpartition("/")[2]):
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("id") == name:
                context = entry.get("max_model_len")
                vllm = entry.get("owned_by") == "vllm"
                return Served(name, vllm, context if type(context) is int and context > 0 else None)
    return None


def names_model(answered: str, served: Served, model: str) -> bool:
    """Whether the model named in an answer is the requested one, or a version of it (NAME-2024-08-06)."""
    last = answered.rstrip("/").rpartition("/")[2].casefold()
    for name in (served.name, model):
        short_name = name.rstrip("/").rpartition("/")[2].casefold()
        if last.startswith(short_name) and not last[len(short_name) : len(short_name) + 1].isalnum():
            return True
    return False


def encode_request(
    request: Request, served: Served, mode: Mode, most: int, parameters: Mapping[str, Any], cap: str = "max_tokens"
) -> tuple[str, bytes]:
    """Path and body of the POST for one completion of up to `most` tokens.

    parameters: of sampling, see `curate.generators.sampling_parameters`. cap: the field of `most` in a chat request.
    """
    body: dict[str, Any] = {"model": served.name, "max_tokens": most, **parameters}
    if mode == "chat" and not isinstance(request.prompt, str):
        body[cap] = body.pop("max_tokens")
        body["messages"] = [dict(message) for message in request.prompt]
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        return "/v1/chat/completions", json.dumps(body).encode()
    body["prompt"] = as_text(request.prompt, request.tools)
    return "/v1/completions", json.dumps(body).encode()


def decode_completion(content: bytes, most: int) -> Answer:
    """Decode the completion in the body of an answer. ValueError if it is invalid or incomplete.

    most: tokens that were asked for, what is charged where the answer does not say how many there are: a budget must
    not be exceeded unseen. A text of more than twice as many, or of more than 128 characters for each, comes from a
    server that does not heed it: cut to its share, and not inside a number, it is one that was cut off.
    """
    try:
        # JSON numbers have any size, 1e400 included: as floats, none of them raises an error.
        answer = json.loads(content, parse_int=float)
        choice = answer["choices"][0]
        text = _said(choice["message"]) if "message" in choice else choice["text"]
        usage = answer.get("usage")
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the answer has no {_missing(error)}") from error
    except ValueError as error:
        began = printable_line(content[:200].decode(errors="replace"), 60)
        raise ValueError(f"no JSON, it begins with {began}" if began else "it is empty") from error
    if text is not None and not isinstance(text, str):
        raise ValueError("the answer's text is not text")
    used = usage if isinstance(usage, dict) else {}
    prompt_tokens, completion_tokens = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
    if completion_tokens == 0 and text:
        completion_tokens = None
    counts = (prompt_tokens or 0, most if completion_tokens is None else completion_tokens)
    name = answer.get("model")
    stated = (name if isinstance(name, str) and name.strip() else None, completion_tokens is not None)
    if reason == "content_filter":
        withheld = "the server's content filter withheld it"
        return Answer(Completion("", "refused", *counts, refusal=withheld), *stated)
    if not isinstance(reason, str) or reason not in _FINISH:
        raise ValueError(f"the answer ended with finish_reason {printable_line(repr(reason), 40)}")
    full_text = encodable(text or "")
    kept_text = _within(full_text, completion_tokens, _hidden_tokens(used), most)
    cut = len(kept_text) < len(full_text)
    return Answer(Completion(kept_text, "length" if cut else _FINISH[reason], *counts), *stated, cut)


def _said(message: Any) -> Any:
    """The content of an answer, and behind it the calls that a server has taken out of it."""
    calls = message.get("tool_calls") or [one_call for one_call in [message.get("function_call")] if one_call]
    if not calls:
        return message["content"]
    content = message.get("content")
    written = [_call_text(call.get("function", call)) for call in calls]
    return "\n".join([content, *written] if content else written)


def _call_text(function: Mapping[str, Any]) -> str:
    """A call as the default template writes it; arguments that are text keep their characters."""
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) and arguments.strip() else json.dumps(arguments or {})
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {text}}}\n</tool_call>'


def _missing(error: Exception) -> str:
    return "choices" if isinstance(error, IndexError | TypeError) else printable_line(str(error), 60)


def _within(text: str, tokens: int | None, hidden: int, most: int) -> str:
    """The text, truncated to the length of `most` tokens if it is far longer."""
    keep = min(len(text), _LONGEST_TOKEN * most)
    visible = (tokens or 0) - hidden
    if visible > _TOLERATED * most:
        keep = min(keep, len(text) * most // visible)
    if keep == len(text):
        return text
    return text[:keep].rstrip("0123456789.,/")  # a truncated number would be another number


def _hidden_tokens(usage: dict[str, Any]) -> int:
    """Reasoning tokens, which are counted but are not part of the text."""
    details = usage.get("completion_tokens_details")
    return _count(details.get("reasoning_tokens")) or 0 if isinstance(details, dict) else 0


def _count(tokens: Any) -> int | None:
    """A token count in JSON, None if it is not valid."""
    return int(tokens) if isinstance(tokens, float) and 0 <= tokens <= _MOST_TOKENS and tokens.is_integer() else None


def encodable(text: str) -> str:
    """Replace each lone surrogate by U+FFFD, so that UTF-8 can encode the text."""
    return _HALF_A_PAIR.sub("\ufffd", text)


def error_message(content: bytes) -> str:
    """The message of an error response on one line of up to `LONGEST_MESSAGE` characters; numbers may come late."""
    text = content.decode(errors="replace")
    try:
        response = json.loads(text)
        if isinstance(response, dict):
            error = response.get("error", response)
            message = error.get("message", error.get("detail", text)) if isinstance(error, dict) else error
            text = message if isinstance(message, str) else json.dumps(message)
            code = error.get("code") if isinstance(error, dict) else None
            if isinstance(code, str) and "_" in code and code not in text:  # context_length_exceeded: "Bad request"
                text = f"{text} ({code})"
    except (ValueError, RecursionError):
        if page := _PAGE_TITLE.search(text):  # an error page, of a proxy for example
            text = page[1]
    return printable_line(text, LONGEST_MESSAGE) or "no reason given"


def wants_other_cap(status: int, message: str) -> bool:
    """Whether a server wants `max_completion_tokens` in place of `max_tokens`, as OpenAI's reasoning models do."""
    is_named = re.search(r"\bmax_tokens\b", message) and OTHER_CAP in message
    return (
        status in (400, 422)
        and bool(is_named)
        and re.search("unsupported|not supported|instead", message, re.I) is not None
    )


def refuses_tools(request: Request, status: int, message: str) -> bool:
    """Whether an answer of that HTTP status says that a server does not take the tools of a request."""
    return bool(request.tools) and status in (400, 404, 422, 500, 501) and _TOOLS_NAMED.search(message) is not None


def lacks_chat_template(message: str) -> bool:
    """Whether the message says that the model has no chat template."""
    return re.search(r"chat[ _]template", message, re.I) is not None
