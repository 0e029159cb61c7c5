"""Den Graphen einer ONNX-Datei zeichnen, aus ihren echten Knoten.

Aufruf: python -m examples.onnx_model.graph MODELL.onnx BILD.png
"""

import sys
from collections import defaultdict
from textwrap import fill

import onnx
from google.protobuf.message import DecodeError
from matplotlib.figure import Figure

INK, LINE, FILL = "#1b2a33", "#0b6e75", "#e6f1f2"


def boxes(graph: onnx.GraphProto) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Gibt je Kasten die Beschriftung zurück und aus welchen Kästen er gespeist wird.

    Eingaben mit demselben Ziel teilen sich einen Kasten, sonst wäre das Bild unlesbar breit.
    """
    targets = defaultdict(list)
    for value in graph.input:
        targets[tuple(n.output[0] for n in graph.node if value.name in n.input)].append(value.name)
    labels = {names[0]: fill(", ".join(names), 20) for names in targets.values()}
    source = {name: names[0] for names in targets.values() for name in names}
    parents = {name: [] for name in labels}
    for node in graph.node:
        name = source[node.output[0]] = node.output[0]
        labels[name] = f"{node.op_type}{detail(node)}"
        parents[name] = list(dict.fromkeys(source[i] for i in node.input if i in source))
    for value in graph.output:
        labels["output"], parents["output"] = f"Preis ({value.name})", [source[value.name]]
    return labels, parents


def detail(node: onnx.NodeProto) -> str:
    """Nennt, wie viele Zahlen in einem Knoten stecken, wo es viele sind."""
    sizes = {attribute.name: attribute for attribute in node.attribute}
    if "keys_strings" in sizes:
        return f"\n{len(sizes['keys_strings'].strings)} Stufen"
    if "nodes_treeids" in sizes:
        trees = sizes["nodes_treeids"].ints
        return f"\n{len(set(trees))} Bäume, {len(trees)} Knoten"
    return ""


def draw(graph: onnx.GraphProto) -> Figure:
    """Ordnet die Kästen von oben nach unten: jeder steht unter allem, was er braucht."""
    labels, parents = boxes(graph)
    level: dict[str, int] = {}
    for name in labels:
        level[name] = 1 + max((level[parent] for parent in parents[name]), default=-1)
    figure = Figure(figsize=(8, max(level.values()) + 1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(-max(level.values()) - 0.5, 0.5))
    axes.set_axis_off()
    inputs = [name for name in labels if not parents[name]]
    x = {name: (number + 0.5) / len(inputs) for number, name in enumerate(inputs)}
    for name, sources in parents.items():
        # Unter der Mitte dessen, was hineinführt; so bleiben Ketten senkrecht.
        x.setdefault(name, sum(x[source] for source in sources) / (len(sources) or 1))
    style = {"boxstyle": "round,pad=0.45", "facecolor": FILL, "edgecolor": LINE}
    centred = {"ha": "center", "va": "center", "color": INK, "size": 12, "bbox": style}
    box = {
        name: axes.text(x[name], -level[name], label, **centred).get_bbox_patch()
        for name, label in labels.items()
    }
    for name, sources in parents.items():
        for source in sources:
            # Die Pfeile enden am Rand der Kästen, wie groß sie auch sind.
            arrow = {"arrowstyle": "-|>", "color": INK, "patchA": box[source], "patchB": box[name]}
            start, end = (x[source], -level[source]), (x[name], -level[name])
            axes.annotate("", end, start, arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0})
    return figure


def main() -> None:
    """Liest die Datei und schreibt das Bild; was davon nicht geht, ist ein Satz."""
    if len(sys.argv) != 3:
        sys.exit(f"Aufruf: python -m {__spec__.name} MODELL.onnx BILD.png")
    try:
        # Sonst entscheidet die Endung, wie gelesen wird.
        picture = draw(onnx.load(sys.argv[1], format="protobuf").graph)
    except (OSError, DecodeError, ValueError):  # eine leere Datei ist ein Graph ohne Knoten
        sys.exit(f"{sys.argv[1]} ist kein lesbares Modell.")
    try:
        picture.savefig(sys.argv[2], dpi=150)
    except (OSError, ValueError):
        sys.exit(f"{sys.argv[2]} lässt sich nicht als Bild schreiben.")


if __name__ == "__main__":
    main()
