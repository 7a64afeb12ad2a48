"""What a compiled kernel does in its loops: a reader of nvdisasm's listing."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = re.compile(r"^\s*(\.L\w+):")
_LINE = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(@\S+\s+)?([A-Z][\w.]*)([^;]*);")
_TARGET = re.compile(r"`\((\.L\w+)\)")
# Those that end a basic block. A call returns to where it was, BSSY and the like only mark where branches meet again.
_ENDS = ("BRA", "EXIT", "RET", "JMP", "BRX", "JMX", "BREAK")


@dataclass(frozen=True)
class Instruction:
    opcode: str
    predicated: bool
    target: str | None
    """The label that a branch goes to."""

    @property
    def name(self) -> str:
        """Without its modifiers."""
        return self.opcode.split(".")[0]


def loops(listing: str) -> list[list[Instruction]]:
    """The natural loops of all functions of a listing, one for each header, each as its instructions.

    A loop is what reaches a branch back to its header without passing the header; a branch goes back if its target lies
    on every way to it. Instructions of an inner loop belong to the outer one too.
    """
    return [
        [instruction for number in sorted(body) for instruction in blocks[number]]
        for blocks, follow in _functions(listing)
        for body in _bodies(follow)
    ]


def innermost(found: list[list[Instruction]], *names: str) -> list[list[Instruction]]:
    """Of the loops those that hold an instruction of one of these names, but no smaller such loop."""
    holding = [body for body in found if any(each.name in names for each in body)]
    identities = [{id(each) for each in body} for body in holding]
    return [
        body
        for body, own in zip(holding, identities, strict=True)
        if not any(other < own for other in identities)
    ]  # fmt: skip


def copied_bytes(body: list[Instruction]) -> int:
    """Bytes that one thread copies to shared memory by 16 without waiting, once through the loop; no bulk copies."""
    return 16 * sum(each.name == "LDGSTS" and ".128" in each.opcode for each in body)


def products(body: list[Instruction], warps: int) -> int:
    """Multiply-adds of the matrix instructions once through the loop, of FFMA where there are none."""
    matrix = 0
    for each in body:
        if each.name == "HGMMA":  # one of four warps together
            shape = re.search(r"\.(\d+)x(\d+)x(\d+)", each.opcode)
            m, n, k = map(int, shape.groups()) if shape else (0, 0, 0)
            matrix += m * n * k * warps // 4
        elif each.name == "HMMA":
            matrix += (16 * 8 * 16 if ".16816" in each.opcode else 16 * 8 * 8) * warps
    return matrix or 32 * warps * sum(each.name == "FFMA" for each in body)


def _functions(listing: str) -> list[tuple[list[list[Instruction]], list[set[int]]]]:
    """Of each function its basic blocks and which follow each."""
    found = []
    for section in re.split(r"^\s*\.section\s+\.text\.", listing, flags=re.MULTILINE)[1:]:
        blocks: list[list[Instruction]] = [[]]
        labels: dict[str, int] = {}
        for line in section.splitlines():
            if label := _LABEL.match(line):
                if blocks[-1]:
                    blocks.append([])
                labels[label[1]] = len(blocks) - 1
            elif match := _LINE.match(line):
                target = _TARGET.search(match[3])
                branches = match[2].split(".")[0] in _ENDS
                blocks[-1].append(
                    Instruction(match[2], match[1] is not None, target[1] if target and branches else None)
                )
                if branches:
                    blocks.append([])
        follow: list[set[int]] = []
        for number, block in enumerate(blocks):
            last = block[-1] if block else None
            after: set[int] = set()
            if last is not None and last.target in labels:
                after.add(labels[last.target])
            if (last is None or last.name not in _ENDS or last.predicated) and number + 1 < len(blocks):
                after.add(number + 1)
            follow.append(after)
        found.append((blocks, follow))
    return found


def _bodies(follow: list[set[int]]) -> list[set[int]]:
    """The blocks of each natural loop."""
    before: list[set[int]] = [set() for _ in follow]
    for number, after in enumerate(follow):
        for each in after:
            before[each].add(number)
    reached, waiting = {0}, [0]
    while waiting:
        for each in follow[waiting.pop()] - reached:
            reached.add(each)
            waiting.append(each)
    # What lies on every way to a block: a largest fixed point.
    always = {number: set(reached) for number in reached}
    always[0] = {0}
    changed = True
    while changed:
        changed = False
        for number in sorted(reached - {0}):
            now = set.intersection(*(always[each] for each in before[number] & reached)) | {number}
            changed |= now != always[number]
            always[number] = now
    bodies: dict[int, set[int]] = {}
    for number in sorted(reached):
        for header in follow[number] & always[number]:
            body = bodies.setdefault(header, {header})
            waiting = [number]
            while waiting:
                each = waiting.pop()
                if each not in body:
                    body.add(each)
                    waiting.extend(before[each] & reached)
    return list(bodies.values())
