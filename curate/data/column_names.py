"""Column names by role, and names reserved for the columns that curation adds."""

from __future__ import annotations

# Required roles of each shape and the column names that they are recognized by, most specific first: if a dataset has
# both a worked solution and a bare answer, the solution is what a model is trained on.
REQUIRED: dict[str, dict[str, tuple[str, ...]]] = {
    "messages": {"messages": ("messages", "conversations", "conversation")},
    "prompt_completion": {
        "prompt": ("prompt",),
        "completion": ("completion", "response", "output", "answer", "generation", "target", "reply"),
    },
    "instruction": {
        "instruction": ("instruction", "instructions"),
        "output": ("output", "response", "completion", "generation", "answer", "target", "outputs"),
    },
    "question_answer": {
        "prompt": ("question", "problem", "query"),
        "completion": (
            *("solution", "generated_solution", "answer", "response", "answers", "output", "completion"),
            *("generation", "target", "reply"),
        ),
    },
    "text": {"text": ("text", "content")},
}
# Further names, tried if nothing else fits: of conversations, and of prompts with those of their completions.
CONVERSATIONS = (
    "chat",
    "dialog",
    "dialogue",
    "turns",
    "dialogs",
    "dialogues",
    "chats",
    "message",
    "items",
    "contents",
    "utterances",
    "trajectory",
    "texts",
)
PAIRS = (
    (
        ("input", "inputs", "input_text"),
        ("output", "outputs", "target", "targets", "completion", "response", "answer", "label_text", "output_text"),
    ),
    (("article", "document", "dialogue", "dialog", "report", "passage"), ("summary", "highlights", "abstract")),
    (("user", "human"), ("assistant", "gpt", "bot", "chatbot", "chatgpt", "ai", "response", "answer")),
    (("source", "source_text", "src"), ("target", "target_text", "tgt")),
    (("task",), ("solution", "completion", "response", "output", "answer")),
    (("prompt", "question", "problem", "instruction"), ("solution", "code", "canonical_solution")),
    (("q",), ("a",)),
    (("inputs_pretokenized",), ("targets_pretokenized",)),
)
INPUT = ("input", "context")
# Columns besides prompt and completion that a model sees.
SURROUNDING_NAMES: dict[str, tuple[str, ...]] = {
    "system": ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt", "systeminstruction"),
    "history": ("history", "chat_history", "conversation_history", "dialog_history", "dialogue_history"),
    "context": ("context", "contexts", "passage", "paragraph", "documents", "retrieved_contexts"),
    "tools": (
        *("tools", "functions", "available_tools", "tool_definitions", "function_definitions"),
        *("tool_schemas", "tool_config", "toolconfig"),
    ),
}
OPTIONAL = {
    "id": ("id", "uuid"),
    "source": ("source", "data_source"),
    "final_answer": ("final_answer", "answer", "expected_answer"),
}

SHAPES = tuple(REQUIRED)
SURROUNDING = tuple(SURROUNDING_NAMES)
# Roles whose cells may be null.
OPTIONAL_CONTENT = frozenset(["input", *SURROUNDING])
# Roles of preference pairs and labeled completions, see `curate.data.preferences`.
PAIR_ROLES = ("chosen", "rejected", "label")
PAIR_SHAPES = ("preference", "kto")
PAIR_NAMES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("chosen_answer", "rejected_answer"),
    ("chosen_text", "rejected_text"),
    ("better", "worse"),
    ("better_response", "worse_response"),
    ("response_j", "response_k"),
    ("response", "rejected_response"),
    ("messages", "rejected_messages"),
)
LABEL_NAMES = ("label", "kto_tag", "desirable")
ROLES = (
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "messages",
    "text",
    *SURROUNDING,
    "id",
    "source",
    "final_answer",
    *PAIR_ROLES,
    "role",
    "content",
)
# Columns that other tools show to a model but that are not read here, and what to tell the user about them.
UNREAD: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (
            *("reasoning_content", "thinking", "chain_of_thought", "reasoning", "cot", "thoughts", "thought", "think"),
            *("complex_cot", "model_reasoning", "deepseek_reasoning", "reasoning_trace", "reasoning_text"),
            *("thinking_trajectory", "deepseek_thinking_trajectory", "gemini_thinking_trajectory", "thinking_content"),
        ),
        "is not read; where it is the reasoning before an answer, write it into the answer, in <think> and </think>",
    ),
    (("image", "images", "video", "videos", "audio", "audios"), "is kept, but no model sees it"),
    (
        ("loss_weight", "sample_weight", "example_weight"),
        "is kept, but every row counts the same; curate finetune weights rows with {use: GivenWeights, column: NAME}",
    ),
    (("chat_template_kwargs", "enable_thinking"), "is kept, but chat templates get nothing of it"),
    (
        ("rejected", "rejected_response", "rejected_answer", "dispreferred"),
        "is kept, but not read: no column has the chosen answers beside it; name both for preference pairs, as "
        "--columns prompt=COLUMN,chosen=COLUMN,rejected=COLUMN",
    ),
)
# Names of the columns that curation adds to the data of a finished run.
RESERVED = (
    *("example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard"),
    *("generator", "request", "pass_count", "verified", "rescored_hard"),
)
