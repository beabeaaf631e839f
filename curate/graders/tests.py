"""Grade programs by the tests of their row, in a sandbox."""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from pydantic import Field

from curate.component import Component
from curate.graders.final_words import final_words
from curate.verify.sandbox import check_sandbox, run_program
from curate.verify.sandbox_limits import ProgramLimits
from curate.verify.verdict import Verdict

_TESTS = ("test", "tests", "test_code", "test_list", "unit_tests", "assertions")
_BEFORE = ("test_setup_code", "test_imports", "test_setup")
_ENTRY = ("entry_point", "entry", "function_name")
_FENCE = re.compile(r"```[ \t]*(\w*)[ \t]*\r?\n(.*?)(\n[ \t]*```|\Z)", re.DOTALL)
_MOST_AT_ONCE = 4
# Where the program of a completion, the one that is tested, must not be seen as the script itself: what stands under
# `if __name__ == "__main__"` is not part of it.
# Tests pass where assertions of theirs were true and none was false, or, of tests that have none, where nothing was
# raised: what they leave out, or catch, has shown nothing.
_HARNESS = """\
import sys, types
def _run():
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    seen = []
    def asserted(value):
        seen.append(bool(value))
        return seen[-1]
    try:
        exec(compile({code!r}, "solution.py", "exec"), module.__dict__)
        module.__dict__["_{token}"] = asserted
        exec(compile({tests!r}, "tests.py", "exec"), module.__dict__)
    except (ImportError, MemoryError):
        return "cannot"
    except BaseException:
        return "failed"
    return "passed" if all(seen) and (seen or not {counted}) else "cannot"
print("\\n{token} " + _run())
"""


class Tests(Component):
    """Right where the program of a completion passes the tests of its row, each program in its own sandbox.

    Tests are Python in a column `test`, `tests`, `test_code`, `test_list`, `unit_tests` or `assertions` (text, or a
    list of it): assertions, functions `test_..` without parameters, which are called, or `check(candidate)` for the
    function named in a column `entry_point`. Their imports may be in `test_imports` or `test_setup_code`. Rows
    whose tests check nothing are not graded. The program is the last Python fence of a completion, or the whole
    completion if it is Python; if it only continues the function begun in the column `prompt`, it is appended to that.
    A program that raises, exits or fails a test is wrong. One that takes longer than `seconds`, lacks a package or
    memory, prints too much, is cut off inside its fence, or whose tests reach no assertion or catch one that fails, is
    undecided. A program that sets out to deceive its tests
    can: it runs in one process with them. Programs run only with the consent of `Evaluation.run_programs`.
    """

    __test__: ClassVar[bool] = False  # keeps pytest from collecting it
    runs_programs: ClassVar[bool] = True
    seconds: float = Field(default=10.0, gt=0, le=600)

    def check(self) -> None:
        """Raise InputError, with the remedy, if no program can be run."""
        check_sandbox()

    def reference(self, question: str, completion: str, final_answer: str | None, row: Mapping[str, Any]) -> str | None:
        """The tests of a row as one program; None if none of them checks anything."""
        before = [text for name in _BEFORE for text in _texts(row.get(name))]
        tests = next((texts for name in _TESTS if (texts := _texts(row.get(name)))), [])
        return _acting("\n".join([*before, *tests]), next((row[name] for name in _ENTRY if row.get(name)), None))

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """See `curate.protocols.Grader`."""
        return self._grade(completion, reference, row, False)

    def grade_many(
        self,
        completions: Sequence[str],
        references: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        cut_off: Sequence[bool],
    ) -> list[Verdict]:
        """See `curate.protocols.Grader`; runs several programs at a time."""
        with ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as threads:
            return list(threads.map(self._grade, completions, references, rows, cut_off))

    def extract(self, completion: str, cut_off: bool) -> str | None:
        """The program."""
        return _program(completion, cut_off)

    def _grade(self, completion: str, reference: str, row: Mapping[str, Any], cut_off: bool) -> Verdict:
        """Run one program with its tests. Runs in a thread of `grade_many`."""
        program = _program(completion, cut_off)
        if program is None:
            return Verdict.undecided
        code = _whole(program, row)
        if code is None:
            return Verdict.wrong if "```" in completion else Verdict.undecided  # no Python
        token = secrets.token_hex(16)
        tests, counted = _counting(reference, f"_{token}")
        harness = _HARNESS.format(code=code, tests=tests, token=token, counted=counted)
        result = run_program(harness, ProgramLimits(wall_seconds=self.seconds, cpu_seconds=max(1, round(self.seconds))))
        if result.output is None:
            # it may have ended the process, which is a failure and not a limit
            exited = (result.failure or "").startswith("exit status")
            return Verdict.wrong if result.layers and exited else Verdict.undecided
        lines = result.output.splitlines()
        if f"{token} passed" in lines:
            return Verdict.right
        return Verdict.undecided if f"{token} cannot" in lines else Verdict.wrong


def _texts(cell: Any) -> list[str]:
    """The programs in a cell: text, a list of texts, or such a list as JSON text."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return [cell]
    if isinstance(cell, str):
        return [cell] if cell.strip() else []
    return [text for text in cell if isinstance(text, str)] if isinstance(cell, list) else []


def _acting(tests: str, entry: Any) -> str | None:
    """The tests with the calls that run them; None if they are not Python or check nothing."""
    tree = _parsed(tests)
    if tree is None or not any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree)):
        return None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = [f"{name}()" for name, node in functions.items() if name.startswith("test") and not _needs(node)]
    if "check" in functions and isinstance(entry, str) and entry.isidentifier():
        calls.append(f"check({entry})")
    statements = (node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef))
    called = {node.func.id for statement in statements for node in ast.walk(statement) if _is_named_call(node)}  # type: ignore[attr-defined]
    at_once = any(
        isinstance(node, ast.Assert)
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        for node in ast.walk(statement)
    )
    if not calls and not at_once and not called & functions.keys():
        return None
    own = [call for call in calls if call.partition("(")[0] not in called]
    return "\n".join([tests, *own])


class _Counting(ast.NodeTransformer):
    """Passes what is asserted through a function; constants, and tuples as of `assert (x, "message")`, say nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.count += 1
        if isinstance(node.test, ast.Constant | ast.Tuple) and getattr(node.test, "value", True):
            return node
        call = ast.Call(ast.Name(self.name, ast.Load()), [node.test], [])
        return ast.fix_missing_locations(ast.copy_location(ast.Assert(call, node.msg), node))


def _counting(tests: str, name: str) -> tuple[str, bool]:
    """Tests whose assertions are counted by a function of this name, and whether they have any."""
    tree = _parsed(tests)
    if tree is None:
        return tests, True
    counting = _Counting(name)
    return ast.unparse(counting.visit(tree)), counting.count > 0


def _is_named_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def _needs(function: ast.FunctionDef) -> bool:
    """Whether a call must pass arguments."""
    signature = function.args
    return len(signature.posonlyargs) + len(signature.args) > len(signature.defaults) or any(
        default is None for default in signature.kw_defaults
    )


def _parsed(code: str) -> ast.Module | None:
    try:
        tree = ast.parse(code)
        return None if _returns(tree) else tree
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _returns(node: ast.AST) -> bool:
    """Whether there is a `return` outside of a function, which parsing accepts."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    return isinstance(node, ast.Return) or any(map(_returns, ast.iter_child_nodes(node)))


def _program(completion: str, cut_off: bool) -> str | None:
    """The last Python fence of a completion, or the completion if all of it is Python; None if it was cut off there."""
    answer_text = final_words(completion)
    if not answer_text:
        return None
    fences = [fence for fence in _FENCE.findall(answer_text) if fence[0].lower() in ("", "py", "python", "python3")]
    if not fences:
        # Leading whitespace is part of a program that continues a function.
        leading_text = completion[: completion.rindex(answer_text)]
        return None if cut_off else leading_text[len(leading_text.rstrip(" \t")) :] + answer_text
    _, program, closed = fences[-1]
    return None if cut_off and not closed.strip() else str(program)


def _whole(program: str, row: Mapping[str, Any]) -> str | None:
    """The program to test; None if it is not Python, with or without the beginning from its prompt."""
    tree, prompt = _parsed(program), row.get("prompt")
    entry = next((row[name] for name in _ENTRY if row.get(name)), None)
    defines_entry = tree is not None and any(
        isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and node.name == entry
        for node in tree.body
    )
    if isinstance(prompt, str) and isinstance(entry, str) and not defines_entry:
        for text in (program, "    " + program.lstrip(), textwrap.indent(program, "    ")):
            if _parsed(whole := prompt + text) is not None:
                return whole
    elif isinstance(prompt, str) and isinstance(entry, str) and _parsed(prompt + "    pass\n") is not None:
        # A function written from scratch may need the imports of the prompt.
        imports = [ast.unparse(node) for node in ast.parse(prompt + "    pass\n").body if _imports(node)]
        return "\n".join([*imports, program])
    return None if tree is None else program


def _imports(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)
