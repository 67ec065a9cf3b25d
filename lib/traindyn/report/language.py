"""The language in which a ledger writes its tests: read, checked against a white list, and set into words.

A test is a small Python expression over names of evidence and numbers: `norm[3] < norm[2] < 1`, or
`mean(match - base) >= 0.2`. Only what is listed here is allowed; everything else is an error that names its place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from traindyn.errors import InputError, nearest

ELEMENTWISE = {"abs": 1, "log10": 1, "min": 2, "max": 2}  # function -> fewest arguments
OVER_SEEDS = ("mean", "median", "sd", "sem", "least", "most", "quantile", "count")
OPERATORS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}
ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
Case = tuple[str | float, ...]
Reference = tuple[str, Case | None]


@dataclass(frozen=True)
class Test:
    """A test that has been read.

    Attributes:
        text: as it stands in the ledger.
        tree: its syntax tree; only nodes of the language stand in it.
        references: every (name, case or None) that it asks for, each once, in order.
        numbers: its distinct numbers outside brackets, in order.
    """

    __test__ = False  # pytest would take the class for one of its own

    text: str
    tree: ast.expr
    references: tuple[Reference, ...]
    numbers: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of evidence that it asks for, each once, in order."""
        return tuple(dict.fromkeys(name for name, _ in self.references))

    @property
    def bare(self) -> bool:
        """Whether some name stands outside every function over seeds."""
        return any(not inside for _, inside in _references(self.tree, False))


def parse(text: str) -> Test:
    """Read a test.

    Args:
        text: the test; a line break counts as a space.

    Raises:
        InputError: it is not of the language; the message says what stands where, and what is expected.
    """
    text = " ".join(str(text).split())
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = getattr(error, "msg", None) or "it cannot be read"
        column = f", column {error.offset}" if getattr(error, "offset", None) else ""
        raise InputError(f"test '{text}'{column}: {said}; expected a comparison such as 'peak >= 1.3'") from error
    _check_test(tree, text, inside=False)
    references = tuple(dict.fromkeys(found for found, _ in _references(tree, False)))
    if not references:
        raise InputError(f"test '{text}': it names no evidence; expected a comparison such as 'peak >= 1.3'")
    return Test(text, tree, references, tuple(dict.fromkeys(value for _, value in literals(tree))))


def _wrong(node: ast.AST, text: str, expected: str) -> InputError:
    words = ast.get_source_segment(text, node) or type(node).__name__
    return InputError(
        f"test '{text}', column {node.col_offset + 1}: '{words}' is not allowed here; expected {expected}"
    )


def _check_test(node: ast.expr, text: str, inside: bool) -> None:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                _check_test(part, text, inside)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            _check_test(part, text, inside)
        case ast.IfExp(test=premise, body=body, orelse=ast.Constant(value=None)):
            _check_test(premise, text, inside)
            _check_test(body, text, inside)
        case ast.IfExp(orelse=other):
            raise _wrong(other, text, "None after 'else'")
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            _check_term(left, text, inside)
            value = number(right)
            if value is None or value != int(value):
                raise _wrong(right, text, "a whole number after '=='")
        case ast.Compare(left=left, ops=ops, comparators=rights):
            for op, right in zip(ops, rights, strict=True):
                if isinstance(op, ast.Eq):
                    raise _wrong(node, text, "'==' alone, between a term and a whole number")
                if type(op) not in OPERATORS:
                    raise _wrong(node, text, "one of <, <=, >, >=, ==")
                _check_term(right, text, inside)
            _check_term(left, text, inside)
        case _:
            raise _wrong(node, text, "a comparison such as 'peak >= 1.3'")


def _check_term(node: ast.expr, text: str, inside: bool) -> None:
    match node:
        case ast.Constant():
            if number(node) is None:
                raise _wrong(node, text, "a number or a name")
        case ast.Name(id=name):
            if name in ELEMENTWISE or name in OVER_SEEDS:
                raise _wrong(node, text, f"'{name}(...)'")
        case ast.Subscript(value=ast.Name(), slice=index):
            for item in index.elts if isinstance(index, ast.Tuple) else [index]:
                if not isinstance(item, ast.Name) and number(item) is None:
                    raise _wrong(item, text, "a case: a number or a word")
            if isinstance(index, ast.Tuple) and not index.elts:
                raise _wrong(index, text, "a case: a number or a word")
        case ast.UnaryOp(op=ast.USub(), operand=part):
            _check_term(part, text, inside)
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) not in ARITHMETIC:
                raise _wrong(node, text, "one of +, -, *, /, **")
            _check_term(left, text, inside)
            _check_term(right, text, inside)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            _check_call(node, name, arguments, text, inside)
        case _:
            raise _wrong(node, text, "a number, a name, name[case], arithmetic or a function of the language")


def _check_call(node: ast.Call, name: str, arguments: list[ast.expr], text: str, inside: bool) -> None:
    known = (*ELEMENTWISE, *OVER_SEEDS)
    if name not in known:
        raise _wrong(node, text, f"one of {', '.join(known)}{nearest(name, known)}")
    if name in ELEMENTWISE:
        fewest = ELEMENTWISE[name]
        if len(arguments) < fewest or (fewest == 1 and len(arguments) > 1):
            raise _wrong(node, text, f"{'two or more arguments' if fewest == 2 else 'one argument'} of {name}")
        for argument in arguments:
            _check_term(argument, text, inside)
        return
    if inside:
        raise _wrong(node, text, "no function over seeds inside another one")
    wanted = 2 if name == "quantile" else 1
    if len(arguments) != wanted:
        raise _wrong(node, text, f"{wanted} argument{'s' if wanted > 1 else ''} of {name}")
    if name == "quantile" and not 0 <= (number(arguments[1]) if number(arguments[1]) is not None else -1) <= 1:
        raise _wrong(arguments[1], text, "a number between 0 and 1")
    (_check_test if name == "count" else _check_term)(arguments[0], text, True)


def number(node: ast.expr) -> float | None:
    """Return the value of a number, with its sign, or None if the node is something else."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as part) if number(part) is not None:
            return -number(part)
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def reference(node: ast.expr) -> Reference:
    """Return what a name, with or without index, asks for: its name and its case (numbers as floats)."""
    if isinstance(node, ast.Name):
        return node.id, None
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return node.value.id, tuple(item.id if isinstance(item, ast.Name) else number(item) for item in items)


def _references(node: ast.AST, inside: bool) -> Iterator[tuple[Reference, bool]]:
    match node:
        case ast.Name() | ast.Subscript():
            yield reference(node), inside
        case ast.Call(func=function, args=arguments):
            for argument in arguments:
                yield from _references(argument, inside or function.id in OVER_SEEDS)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _references(child, inside)


def literals(node: ast.AST) -> Iterator[tuple[ast.expr, float]]:
    """Give every number outside brackets with its node, in the order of the text; `-3` is one number."""
    if isinstance(node, ast.Subscript):
        return
    if isinstance(node, ast.expr) and (value := number(node)) is not None:
        yield node, value
        return
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.IfExp):  # the tree has the premise first, the text has it second
        children = (node.body, node.test)
    for child in children:
        yield from literals(child)


_PLACE = re.compile(r"\{(%|-%|\+%|)\}")


def fill(says: str, test: Test | str) -> str:
    """Return the wording of a test with its numbers in their places.

    `{}` takes the next number, `{%}` as per cent, `{-%}` what is missing to 100 %, `{+%}` what exceeds 1. Every
    distinct number outside brackets, but 0 and 1, is used once and in order.

    Raises:
        InputError: there are more or fewer places than numbers.
    """
    test = parse(test) if isinstance(test, str) else test
    numbers = [value for value in test.numbers if abs(value) not in (0, 1)]
    places = list(_PLACE.finditer(says))
    if len(places) != len(numbers):
        given = ", ".join(f"{value:.12g}" for value in numbers) or "none"
        raise InputError(
            f"says '{says}' has {len(places)} places for the {len(numbers)} numbers of '{test.text}' ({given}); "
            "expected one {} each, in order, none for 0 and 1"
        )
    waiting = iter(numbers)

    def put(place: re.Match[str]) -> str:
        value, kind = next(waiting), place.group(1)
        in_math = len(re.findall(r"(?<!\\)\$", says[: place.start()])) % 2 == 1
        if not kind:
            return _shown(value, in_math)
        share = {"%": value, "-%": 1 - value, "+%": value - 1}[kind] * 100
        return _shown(float(f"{share:.10g}"), in_math) + (r"\,\%" if in_math else " %")

    return _PLACE.sub(put, says)


def _shown(value: float, in_math: bool) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    text = f"{value:.12g}"
    if "e" not in text and abs(value) < 1e6:
        return text
    digits, power = f"{value:.11e}".split("e")
    digits = digits.rstrip("0").rstrip(".")
    sign = "-" if digits.startswith("-") else ""
    head = sign if digits.lstrip("-") == "1" else digits + r"\times"
    tex = f"{head}10^{{{int(power)}}}"
    return tex if in_math else f"${tex}$"
