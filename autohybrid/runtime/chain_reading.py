"""Which statements a chain may hold: such as can do nothing but compute with Tensors and bind local names."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import takewhile

import paddle

from autohybrid.runtime.chain_expressions import NOT_NEW, VALUE, Expressions, Held, Kind
from autohybrid.runtime.chain_scope import is_plain
from autohybrid.runtime.chain_source import names_in


class Reading(Expressions):
    """Reads statements one after another, as long as they qualify."""

    def takes(self, statement: ast.stmt, may_return: bool = False) -> bool:
        """Whether the statement qualifies; if so, it belongs to what was read."""
        before = self._now()
        if self._statement(statement, may_return):
            return True
        if not self.lenient:
            self._back_to(before)
        return False

    def _statement(self, node: ast.stmt, may_return: bool = False) -> bool:
        if isinstance(node, ast.Assign):
            kind = self._kind(node.value)
            return kind is not None and all(self._bind(target, kind, node.value) for target in node.targets)
        if isinstance(node, ast.AnnAssign):
            kind = self._kind(node.value) if node.value is not None else None
            return kind is not None and node.value is not None and self._bind(node.target, kind, node.value)
        if isinstance(node, ast.AugAssign):
            return (
                isinstance(node.target, ast.Name)
                and self._load(node.target.id) == VALUE
                and self._kind(node.value) == VALUE
                and self._bind(node.target, VALUE, node.target)
            )
        if isinstance(node, ast.Return):
            return may_return and node.value is not None and self._kind(node.value) == VALUE
        if isinstance(node, ast.For):
            return self._loop(node)
        if isinstance(node, ast.If):
            return self._if(node)
        if isinstance(node, ast.Expr):
            return self._appends(node.value)
        return isinstance(node, ast.Pass) or (isinstance(node, (ast.Break, ast.Continue)) and self._walking > 0)

    def _if(self, node: ast.If) -> bool:
        before = self._now()
        if self._kind(node.test) == VALUE and self._branches(node.body, node.orelse):
            return True
        read = self._now()
        self._back_to(before)
        # One branch alone may do: the chain is for calls that take it.
        text = ast.unparse(node.test)
        for truth, branch in ((False, node.orelse), (True, node.body)):
            decides = self._deciding(node.test, truth)
            if decides is None or self.presumed.get(text, (truth, ""))[0] != truth:
                continue
            self.presumed[text] = (truth, ast.unparse(decides))
            self.conditional |= names_in(decides) - {self._scope.self_name}
            if all(self._statement(each) for each in branch):
                return True
            self._back_to(before)
        if self.lenient:
            self._back_to(read)
        return False

    def _deciding(self, node: ast.expr, truth: bool) -> ast.expr | None:
        """What of a condition, being ``truth``, makes it ``truth``, and can be asked before the chain."""
        if self._is_fixed(node):
            return node
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or if truth else ast.And):
            # What comes later isn't looked at then.
            first = list(takewhile(self._is_fixed, node.values))
            if len(first) > 1:
                return ast.BoolOp(op=node.op, values=first)
            return first[0] if first else None
        return None

    def _is_fixed(self, node: ast.expr) -> bool:
        """Whether a condition can be asked before the chain: nothing in it fails, is computed, or is a sub-Layer's."""
        if isinstance(node, ast.BoolOp):
            return all(map(self._is_fixed, node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._is_fixed(node.operand)
        if isinstance(node, ast.Compare):
            return all(isinstance(each, (ast.Is, ast.IsNot)) for each in node.ops) and all(
                map(self._is_fixed, [node.left, *node.comparators])
            )
        if isinstance(node, ast.Attribute):
            names = self._scope.on_self(node)
            try:
                value = self._scope.value(names) if names is not None and len(names) == 1 else self
            except AttributeError:
                return False
            return is_plain(value) or isinstance(value, paddle.nn.Layer)
        if isinstance(node, ast.Name):
            return node.id != self._scope.self_name and self._scope.is_local(node.id) and node.id not in self.bound
        return isinstance(node, ast.Constant)

    def _branches(self, *branches: Sequence[ast.stmt]) -> bool:
        before, ends = self.surely, []
        for branch in branches:
            self.surely = set(before)
            if not all(self._statement(each) for each in branch):
                self.surely = before
                return False
            ends.append(self.surely)
        self.surely = set.intersection(*ends)
        return True

    def _loop(self, node: ast.For) -> bool:
        if node.orelse:
            return False
        items = self._items(node.iter)
        if items is None:
            return False
        several = 2 if items != VALUE or self._builtin_called(node.iter) == "range" else 1
        self._walking += 1
        before, surely = self.calls, self.surely
        self.surely = set(surely)
        try:
            if not self._bind(node.target, items, node.target):
                return False
            if not all(self._statement(each) for each in node.body):
                return False
        finally:
            self._walking -= 1
            self.surely = surely  # the loop may have no turn at all
            self.calls = before + (self.calls - before) * several
        return True

    def _appends(self, node: ast.expr) -> bool:
        """``found.append(x)`` on a list that the chain itself has made; or a docstring."""
        if isinstance(node, ast.Constant):
            return True
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "append"
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in self.lists
            and len(node.args) == 1
            and not node.keywords
            and self._kind(node.args[0]) == VALUE
        )

    def _bind(self, target: ast.expr, kind: Kind, value: ast.expr) -> bool:
        if isinstance(target, ast.Name):
            name = target.id
            if not self._scope.is_local(name) or isinstance(kind, tuple) or kind is None:
                return False
            self.bound.add(name)
            self.surely.add(name)
            if isinstance(kind, Held):
                self.members[name] = kind
            else:
                self.members.pop(name, None)
            (self.lists.add if isinstance(value, ast.List) else self.lists.discard)(name)
            if isinstance(value, NOT_NEW):
                self.aliases.add(name)
            return True
        if isinstance(target, (ast.Tuple, ast.List)):
            count = len(target.elts)
            parts = kind.parts(count) if isinstance(kind, Held) else kind
            parts = parts if isinstance(parts, tuple) else (parts,) * count
            values = value.elts if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == count else None
            return len(parts) == count and all(map(self._bind, target.elts, parts, values or [value] * count))
        return False
