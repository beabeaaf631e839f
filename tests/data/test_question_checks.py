from typing import Any

import pytest

from curate.data.readers import read
from curate.errors import InputError

ANSWER = "print('hello world')"
WRAPPED = f"### Instruction:\nGreet.\n### Output:\n{ANSWER}"


def notes_of(row: dict[str, Any], **options: Any) -> str:
    return "\n".join(read([row, {**row, "k": 1}], **options).notes)


def test_a_prompt_that_ends_with_its_answer_is_named_with_a_remedy_that_works() -> None:
    row = {"prompt": WRAPPED, "response": ANSWER, "task": "Greet."}
    assert "'prompt' ends with the answer of column 'response'" in notes_of(row)
    assert "--columns prompt=COLUMN,completion=response" in notes_of(row)
    assert "ends with" not in notes_of(row, columns={"prompt": "task", "completion": "response"})
    assert "ends with" not in notes_of({"question": "Is it yes?\nyes", "answer": "yes"})  # such as extracted answers


def test_an_instruction_is_read_in_place_of_its_wording_for_a_model() -> None:
    loaded = read([{"instruction": "Greet.", "input": "", "output": ANSWER, "prompt": WRAPPED}])
    assert loaded.examples.shape == "instruction"
    assert "takes column 'prompt' in its place" in loaded.notes[1]
    other = read(
        [{"instruction": "Greet.", "output": ANSWER, "prompt": "Hi"}], columns="prompt=prompt,completion=output"
    )
    assert other.examples.texts("prompt", 0, 1) == ["Hi"]
    kept = read([{"instruction": "Be brief.", "prompt": "Greet.", "completion": ANSWER}])
    assert kept.examples.texts("prompt", 0, 1) == ["Greet."]


@pytest.mark.parametrize("choices", [{"options": ["one", "two"]}, {"choices": "A) one B) two"}, {"opa": "one"}])
def test_letters_of_choices_that_no_model_sees_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="'answer' names the right one: multiple choice"):
        read([{"question": "What?", **choices, "answer": letter} for letter in ("A", "(b)")])
    name = next(iter(choices))
    assert f"column {name!r} is not read" in notes_of({"question": "What?", **choices, "answer": "one"})
    named = {"prompt": "question", "completion": "answer"}
    assert f"column {name!r} is not read" in notes_of(
        {"question": "What? A) one", **choices, "answer": "A"}, columns=named
    )


def test_answers_that_begin_with_their_prompts_are_told() -> None:
    asked = "Human: How are you?\n\nAssistant:"
    for row in (
        {"prompt": asked, "completion": f"{asked} Fine."},
        {"prompt": asked, "chosen": f"{asked} Fine.", "rejected": f"{asked} No."},
    ):
        assert "begin with their prompts" in notes_of(row)
    assert "begin with" not in notes_of({"prompt": asked, "completion": "Fine."})
