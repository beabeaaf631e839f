"""Count lines of code without comments, docstrings and blanks, public names and protocol classes."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

# python -m benchmarks.size [ROOT]

PACKAGES = ("curate", "scorers", "augmenters")
_NO_CODE = (*(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),)


def code_lines(source: str) -> int:
    """Lines with code on them."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                documented |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def main() -> None:
    """Print one line per package and the sum."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    total = names = protocols = files = 0
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            total, files = total + code_lines(source), files + 1
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ClassDef):
                    protocols += any(ast.unparse(base) == "Protocol" for base in node.bases)
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    names += len(getattr(node.value, "elts", ()))
        for path in (root / package).rglob("*.pyi"):  # what a package offers by name
            names += path.read_text(encoding="utf-8").count(" as ")
    print(f"{files} files, {total:,} lines of code, {names} public names, {protocols} protocol classes")


if __name__ == "__main__":
    main()
