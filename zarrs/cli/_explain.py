"""``zarrs explain``: what runs natively for arrays, how they are cut, and what would be faster."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
import zarr
from rich.text import Text
from rich.tree import Tree

from zarrs._explain import explain as explain_array
from zarrs.cli._advice import advice
from zarrs.cli._layout import layout_of, stored_of
from zarrs.cli._output import err, out, printable, say, say_json, size_text
from zarrs.cli._paths import PathArgument, StorageOptions, arrays_of, open_node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarrs._explain import Explanation
    from zarrs.cli._layout import Layout, Stored

COLOURS = {"native": "green", "hybrid": "yellow", "zarr's own pipeline": "red"}


@dataclass(frozen=True)
class Explained:
    """All that is told of one array."""

    explanation: Explanation
    layout: Layout
    stored: Stored | None
    advice: tuple[str, ...]

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> Explained:
        """Look at an array."""
        explanation, layout = explain_array(array), layout_of(array)
        advised = tuple(advice(layout, explanation))
        return cls(explanation, layout, stored_of(array), advised)

    @property
    def runs(self) -> str:
        """Say what reads and writes it."""
        if self.explanation.native:
            return "native"
        return "hybrid" if self.explanation.hybrid else "zarr's own pipeline"

    @property
    def ratio(self) -> float | None:
        """How many times as large it is decoded, if that is known."""
        size = self.layout.file_bytes
        if self.stored is None or not self.stored.nbytes or size is None:
            return None
        return self.stored.files * size / self.stored.nbytes

    def lines(self) -> Iterator[str]:
        """Describe it line by line, but for the advice."""
        layout = self.layout
        size = size_text(layout.nbytes)
        yield f"{layout.dtype} {layout.shape}, {size}, format {layout.zarr_format}"
        yield f"chunk {layout.chunk}: {size_text(layout.chunk_bytes)}; {layout.chunks:,} in all"
        if layout.shard:
            yield (
                f"shard {layout.shard}: {size_text(layout.shard_bytes)}, "
                f"{layout.chunks_in_shard:,} chunks in each"
            )
        yield f"files: {layout.files:,}, {self._stored()}"
        yield f"store {self.explanation.store}"
        for stage in self.explanation.stages:
            yield f"codec {stage}"

    def _stored(self) -> str:
        if self.stored is None:
            return "how many of them exist is not known without asking for each"
        ratio = "" if self.ratio is None else f", compression ratio {self.ratio:,.2f}"
        return f"of which {self.stored.files:,} exist: {size_text(self.stored.nbytes)}{ratio}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "runs": self.runs,
            "store": asdict(self.explanation.store),
            "codecs": [asdict(stage) for stage in self.explanation.stages],
            "layout": asdict(self.layout),
            "stored": None if self.stored is None else asdict(self.stored),
            "compression_ratio": self.ratio,
            "advice": list(self.advice),
        }


def explain(
    path: PathArgument,
    storage_options: StorageOptions = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what of an array runs natively, how it is cut into files, and what would be faster.

    Of a group, all arrays at any depth are shown. What is stored is counted where one listing
    tells: in directories, zip files and object stores, but not on web servers.
    """
    node = open_node(path, storage_options)
    with err.status("looking at what is stored"):
        found = {name: Explained.of(array) for name, array in arrays_of(node, path).items()}
    if as_json:
        say_json({"path": path, "arrays": {name: one.as_dict() for name, one in found.items()}})
    elif out.is_terminal:
        out.print(_tree(path, found), soft_wrap=False)
    else:
        for name, one in found.items():
            say(f"{name or path}: {one.runs}")
            for line in (*one.lines(), *(f"advice: {text}" for text in one.advice)):
                say(f"  {line}")


def _tree(path: str, found: dict[str, Explained]) -> Tree:
    root = Tree(Text(printable(path), style="bold"))
    branches = {"": root}

    def branch(name: str) -> Tree:
        if name not in branches:
            parent, _, last = name.rpartition("/")
            branches[name] = branch(parent).add(Text(printable(last), style="bold"))
        return branches[name]

    for name, one in found.items():
        node = branch(name)
        label = Text.assemble(node.label, ": ", (one.runs, COLOURS[one.runs]))  # type: ignore[arg-type]
        node.label = label
        for line in one.lines():
            node.add(Text(printable(line)))
        for text in one.advice:
            node.add(Text.assemble(("advice: ", "yellow"), printable(text)))
    return root
