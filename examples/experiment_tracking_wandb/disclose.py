"""Was `wandb sync` aus einem Offline-Lauf hochladen würde, ohne es zu tun."""

import argparse
import sys
from pathlib import Path

from examples.experiment_tracking_wandb import offline, summary


def disclose(path: Path) -> dict:
    """Nennt zu einem Lauf jede Angabe und jede Datei, die den Rechner verließe."""
    entries = summary.records(path)
    run = summary.of_type(entries, "run")[0]
    machine = set().union(*summary.of_type(entries, "environment"))
    console = summary.of_type(entries, "output_raw")
    files = {
        file.relative_to(path.parent).as_posix(): file.stat().st_size
        for file in sorted((path.parent / "files").rglob("*"))
        if file.is_file()
    }
    artifacts = {
        # Der Name der Tabelle enthält die Kennung des Laufs.
        f"{artifact['name'].replace(run['run_id'], '…')}/{entry['path']}": int(entry["size"])
        for artifact in summary.of_type(entries, "artifact")
        for entry in artifact["manifest"]["contents"]
    }
    return {
        "config": sorted(run["config"]["update"].keys() - {"_wandb"}),
        "host": "host" in run or "host" in machine,
        "git": sorted(run.get("git", {})),
        "machine": sorted(machine - {"host", "git", "started_at", "writer_id"}),
        "arguments": summary.of_type(entries, "environment")[0].get("args", []) if machine else [],
        "system_metrics": len(summary.of_type(entries, "stats")) > 0,
        "console": sum(record["line"].endswith("\n") for record in console),
        "log": path.stat().st_size,
        "files": files,
        "artifacts": artifacts,
    }


def latest(folder: Path, name: str) -> Path:
    """Der jüngste Lauf mit diesem Namen."""
    for path in reversed(summary.logs(folder)):
        if summary.summarise(path)["name"] == name:
            return path
    raise offline.TrackingError(f"Unter {folder.name}/ gibt es keinen Lauf {name}.")


def main() -> int:
    """Nennt als JSON, was den Rechner verließe."""
    parser = argparse.ArgumentParser(description="Was ein Abgleich mit W&B hochladen würde")
    parser.add_argument("folder", type=Path, help="der Ordner mit wandb/")
    parser.add_argument("name", help="Name des Laufs")
    arguments = parser.parse_args()
    return offline.as_json(lambda: disclose(latest(arguments.folder, arguments.name)))


if __name__ == "__main__":
    sys.exit(main())
