"""What the source has to say to users: the texts of its warnings and exceptions."""

import ast
import re
from collections.abc import Iterator

from helpers import ROOT

HOLE = "…"  # what a text has in the place of a value, here as on the page
SHORTEST = 13  # what is shorter in TELLING is a word of a text, no text

# Functions that put texts together, or return them.
TELLING = {
    "zarrs/_unavailable.py": ("message", "_advice"),
    "zarrs/copying/_record.py": ("begin", "_take_up"),
    "zarrs/copying/_verify.py": ("__str__",),
    "zarrs/runtime/_errors.py": (
        "exception_of", "_advice", "_fault", "_index_fault", "_number_fault", "_string_fault"
    ),
    "zarrs/storage/_file_locks.py": ("_explained",),
}  # fmt: skip

# Calls that tell something, besides those of exceptions.
CALLS = ("warn", "say_warning", "add_note", "BadParameter", "_refuse")

# Cython's syntax is not Python's: there a text is all strings behind the parenthesis.
STRING = r'f?"(?:[^"\\]|\\.)*"'
RAISED = re.compile(rf"raise (\w+)\(\s*({STRING}(?:\s*{STRING})*)")


def text_of(node: ast.AST, constants: dict[str, str]) -> str:
    """Return a string of the source, with holes; nothing if it is none."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value, constants) or HOLE for value in values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return (text_of(left, constants) or HOLE) + (text_of(right, constants) or HOLE)
        case ast.Name(id=name):
            return constants.get(name, "")
    return ""


def in_calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the name of each exception that is made, or of the call that tells, and its text."""
    constants = {
        target.id: text
        for node in tree.body
        if isinstance(node, ast.Assign) and (text := text_of(node.value, {}))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            texts = [text for arg in node.args if (text := text_of(arg, constants))]
            if texts and name == "WrongResult":
                found = f"expected {texts[0]}, found {HOLE}"
                yield name, found
            elif texts and (name in CALLS or name.endswith("Error")):
                yield name, texts[0]


def in_functions(tree: ast.AST, names: tuple[str, ...]) -> Iterator[str]:
    """Yield the whole strings in functions, without their docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            for statement in node.body[ast.get_docstring(node) is not None :]:
                yield from whole_strings(statement)


def whole_strings(node: ast.AST) -> Iterator[str]:
    """Yield strings that are no parts of another one."""
    if isinstance(node, ast.Constant | ast.JoinedStr):
        text = text_of(node, {})
        if len(text) > SHORTEST:
            yield text
    else:
        for child in ast.iter_child_nodes(node):
            yield from whole_strings(child)


def messages() -> Iterator[tuple[str, str, str]]:
    """Yield where each text is, of which exception or warning, and the text with holes."""
    for path in sorted((ROOT / "zarrs").rglob("*.py*")):
        where = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py":
            tree = ast.parse(path.read_text("utf-8"))
            for kind, text in in_calls(tree):
                yield where, kind, text
            for text in in_functions(tree, TELLING.get(where, ())):
                yield where, "part", text
        elif path.suffix == ".pyx":
            for kind, strings in RAISED.findall(path.read_text("utf-8")):
                yield where, kind, text_of(ast.parse(f"({strings})", mode="eval").body, {})
