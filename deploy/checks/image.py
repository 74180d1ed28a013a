#!/usr/bin/env python3
"""Checks the image and the compose file against the workspace, without a container engine.

No engine runs where these checks run, so what can be known from the files is: that the build context
holds every member, that the binaries exist, that the toolchain is new enough, that versions agree, and
that the compose file starts what the image has. Exits 1 if anything is found.
"""

import re
import sys
import tomllib
from pathlib import Path

import yaml

from bundle import seconds

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
BINARIES = ("repull", "repull-worker", "repull-scheduler")


def read(path):
    """A file of the repository as text."""
    return (ROOT / path).read_text(encoding="utf-8")


def version(text):
    """The first dotted number in a text, as a tuple."""
    return tuple(int(part) for part in re.search(r"\d+(?:\.\d+)+", text).group().split("."))


def context(workspace, ignore):
    """Every member, and every file that a source file embeds, is in the build context."""
    kept = {line[1:].strip("/") for line in ignore.splitlines() if line.startswith("!")}
    for wanted in ["Cargo.toml", "Cargo.lock", *workspace["workspace"]["members"]]:
        if not kept.intersection([wanted, *map(str, Path(wanted).parents)]):
            yield f"Dockerfile.dockerignore: leaves out {wanted}, without which nothing builds"
    for member in workspace["workspace"]["members"]:
        for source in (ROOT / member / "src").rglob("*.rs"):
            for embedded in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text(encoding="utf-8")):
                target = (source.parent / embedded).resolve()
                if target.is_relative_to(ROOT) and target.relative_to(ROOT).parts[0] not in kept:
                    yield f"Dockerfile.dockerignore: leaves out {target.relative_to(ROOT)}, which {source.relative_to(ROOT)} embeds"


def dockerfile(workspace, text):
    """The Dockerfile builds every binary, with a toolchain that is new enough, for a user that is not root."""
    for binary in BINARIES:
        if not re.search(rf"--bin {binary}(?![-\w])", text):
            yield f"Dockerfile: does not build {binary}"
    toolchain = re.search(r"^ARG RUST=rust:(\S+)", text, re.MULTILINE)
    floor = workspace["workspace"]["package"]["rust-version"]
    if not toolchain or version(toolchain.group(1)) < version(floor):
        yield f"Dockerfile: toolchain {toolchain and toolchain.group(1)} is older than the workspace's {floor}"
    if not re.search(r"^USER 65532:65532$", text, re.MULTILINE):
        yield "Dockerfile: the image does not run as user 65532, as the manifests expect"
    if "--locked" not in text:
        yield "Dockerfile: builds without --locked"


def versions(workspace, docker_text, base):
    """The image, the manifests and the workspace state one version."""
    wanted = workspace["workspace"]["package"]["version"]
    stated = {
        "Dockerfile": re.search(r"^ARG VERSION=(\S+)", docker_text, re.MULTILINE).group(1),
        "kubernetes/base": next(str(image["newTag"]) for image in base["images"] if image["name"] == "repull/repull"),
    }
    for where, found in stated.items():
        if found != wanted:
            yield f"{where}: says version {found}, and the workspace is {wanted}"


def compose(document):
    """Services start what the image has, drain before they are killed, and are published on loopback."""
    for name, service in document["services"].items():
        entry = service.get("entrypoint")
        if entry and entry[0].removeprefix("/usr/local/bin/") not in BINARIES:
            yield f"compose.yaml, {name}: starts {entry[0]}, which the image does not have"
        for port in service.get("ports") or []:
            if not str(port).startswith("127.0.0.1:"):
                yield f"compose.yaml, {name}: publishes {port} beyond loopback"
        drain = (service.get("environment") or {}).get("REPULL_DRAIN")
        if drain and seconds(drain) + 8 > (seconds(service.get("stop_grace_period", "10s")) or 0):
            yield f"compose.yaml, {name}: a drain of {drain} does not fit into {service.get('stop_grace_period', '10s')}"


def findings(workspace, ignore, docker_text, base, compose_document):
    """Everything that is wrong."""
    return [
        *context(workspace, ignore),
        *dockerfile(workspace, docker_text),
        *versions(workspace, docker_text, base),
        *compose(compose_document),
    ]


def load():
    """The files."""
    return (
        tomllib.loads(read("Cargo.toml")),
        read("deploy/Dockerfile.dockerignore"),
        read("deploy/Dockerfile"),
        yaml.safe_load(read("deploy/kubernetes/base/kustomization.yaml")),
        yaml.safe_load(read("deploy/compose.yaml")),
    )


def main():
    """The command."""
    found = findings(*load())
    for finding in found:
        print(f"  {finding}")
    print(f"image: {len(BINARIES)} binaries, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
