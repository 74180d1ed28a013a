#!/usr/bin/env python3
"""Writes Kubernetes' schemas in the form that kubeconform can read without a network.

    deploy/checks/schemas.py VERSION FOLDER

They come from the installed package kubernetes-validate, whose files refer to one shared file of
definitions by an absolute address; kubeconform would look for that on the web. Here the references
become relative, and the identifiers that the addresses were resolved against are dropped.
"""

import json
import sys
from importlib import resources
from pathlib import Path


def rewritten(node):
    """A schema with references to the shared definitions beside it."""
    if isinstance(node, list):
        return [rewritten(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: rewritten(value) for key, value in node.items() if key not in ("$id", "$schema") or not isinstance(value, str)}
    if isinstance(kept.get("$ref"), str):
        kept["$ref"] = kept["$ref"].replace("/api/_definitions.json", "_definitions.json")
    return kept


def main():
    """The command."""
    version, folder = sys.argv[1], Path(sys.argv[2])
    source = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}-local-strict"
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for file in source.iterdir():
        schema = rewritten(json.loads(file.read_text(encoding="utf-8")))
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        (folder / file.name).write_text(json.dumps(schema), encoding="utf-8")
        count += 1
    print(f"schemas: {count} files for Kubernetes {version}")


if __name__ == "__main__":
    main()
