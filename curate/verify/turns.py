"""Remove chat markup from a text: end marks, roles, and turns of other speakers."""

from __future__ import annotations

import re

_MARK = re.compile(
    r"""<\|[ ]?/?[A-Za-z][\w\u2581 .:/-]{1,40}[ ]?\|> | <\uff5c[\w\u2581 .:-]{2,40}\uff5c>
      | <\|[a-z_]{3,20}> | <[a-z_]{3,20}\|> | </?s>
      | <(?:eos|bos|pad|eot|eod|unk|sep|end_of_text|end_of_turn|start_of_turn|end_of_utterance|extra_id_\d{1,3})>
      | <(?:end|eo[ah]|eo[tm](?:_id)?|im_end|reserved_\d{1,4}|_end)> | </(?:assistant|user|system)>
      | \[/?INST\] | <</?SYS>> | <?\[(?:EOS|EOT|EOD|PAD|SEP|CLS|/s|end[_ ]of[_ ]text|UNUSED_TOKEN_\d{1,4})\]>?
      | \[\|[a-z_]{3,20}\|\] | \[e~\[ | \]~[!b]\[?
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Marks that begin or end a turn or a text; others, such as those of tools, occur inside one.
_BORDER = re.compile(
    r"""im_(?:end|start|sep) | end_?of_?(?:text|turn|prompt|user|system|chunk|document)
      | end_of_(?:utterance|message|solution) | fim_pad | startoftext | reserved_ | dummy_ | unused_token | \[/s\]
      | end[ ]of[ ]text | <_?end> | \beo[tm]_id
      | (?:end|start|begin)[_\u2581]of[_\u2581](?:text|turn|sentence) | message_end | start_header
      | \b(?:eot|eom|eos|eod|eoa|eoh|bos|pad|unk|sep|cls|stop) | \b(?:user|assistant|system|developer|human)\b
      | (?<=<\|)(?:end|start|return|call)(?=\|>) | /?s> | INST | SYS | turn\|?> | extra_id | \[e~\[
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Where the answer begins in formats that mark the reasoning before it.
_FINAL = re.compile(
    r"<\|channel\|>\s*final\s*<\|message\|>|<\|(?:begin_of_solution|end_of_thought|/think|end_think)\|>|\u25c1/think\u25b7"
)
_BOX = re.compile(r"<\|begin_of_box\|>(.{0,2000}?)<\|end_of_box\|>", re.DOTALL)
# Maximum number of marks at the beginning of a text.
_MOST_OPENINGS = 100
_ROLE = re.compile(r"\s*(assistant|model|ai|user|system|tool|developer|human)\b[ \t]*:?", re.IGNORECASE)
_OTHERS = re.compile(r"user|system|tool|developer|human|\[INST|<<SYS", re.IGNORECASE)
_SQUARE = re.compile(r"\[e~\[|\]~[!b]|INST\]|\[(?:EO|PAD|SEP|CLS|/s|end|UNUSED|\|)", re.IGNORECASE)
_OPENING = re.compile(r"im_start|start_of_turn|start_header|<\|turn>|<\|start\|>", re.IGNORECASE)
_HEADER_END = re.compile(r"\s*(?:<\|end_header_id\|>|<\|message\|>)")


def own_words(text: str) -> str:
    """`text` up to the first mark that ends it, without preceding marks, roles and turns of others."""
    if not _may_be_marked(text):
        return text
    final = list(_FINAL.finditer(text))
    text = _BOX.sub(r"\\boxed{\1}", text[final[-1].end() :] if final else text)
    for _ in range(_MOST_OPENINGS):
        border = _first_border(text)
        if border is None or text[: border.start()].strip():
            return _MARK.sub(" ", text if border is None else text[: border.start()])
        text = _after_opening(border[0], text[border.end() :])
    return ""


def without_marks(text: str) -> str:
    """`text`, an answer alone, without surrounding marks."""
    return _MARK.sub(" ", text).strip() if _may_be_marked(text) else text


def _may_be_marked(text: str) -> bool:
    """A cheap test first, because most texts contain no marks."""
    return ("<" in text and ">" in text) or "\u25c1" in text or _SQUARE.search(text) is not None


def _first_border(text: str) -> re.Match[str] | None:
    return next((mark for mark in _MARK.finditer(text) if _BORDER.search(mark[0])), None)


def _after_opening(mark: str, rest: str) -> str:
    """The text after an opening mark, without the role it names, or without the whole turn of another speaker."""
    speaker = mark
    if _OPENING.search(mark) is not None:
        role = _ROLE.match(rest)
        if role is None:
            return rest
        speaker, rest = role[1], rest[role.end() :]
        header = _HEADER_END.match(rest)
        rest = rest[header.end() :] if header else rest
    if _OTHERS.search(speaker) is None:
        return rest
    end = _first_border(rest)
    return "" if end is None else rest[end.end() :]
