#!/usr/bin/env python3
"""Plants faults, one at a time, and asserts that the check made for each of them finds it.

    deploy/checks/faults.py --prod FILE --lanes FILE --hpa FILE
        [--typed PROGRAM] [--kube-linter PROGRAM] [--promtool PROGRAM] [--hadolint PROGRAM]
        [--nats-server PROGRAM]

A check that never fails proves nothing. Every group of faults is first run against the files as they
are, which must pass. Groups whose program is not given are left out, and said to be. Exits 1 if a
fault is not found.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import alerts
import faults_files
import faults_manifests
import image
import manifests
import metrics
import nats_roles
import nats_values
import schema
from bundle import Bundle

DEPLOY = Path(__file__).resolve().parent.parent
FILES = {
    "rules": "alerts/rules.yaml",
    "tests": "alerts/tests.yaml",
    "dashboard": "grafana/repull.json",
    "adapter": "kubernetes/components/hpa/prometheus-adapter.yaml",
    "roles": "nats/permissions.conf",
    "accounts": "nats/accounts-password.conf",
    "server": "nats/nats-server.conf",
    "values": "nats/values-r3.yaml",
    "ignore": "Dockerfile.dockerignore",
    "docker": "Dockerfile",
    "compose": "compose.yaml",
}


class Tally:
    """Faults planted and faults missed."""

    def __init__(self):
        self.planted, self.missed, self.left_out = 0, [], []

    def group(self, name, faults, subject, find):
        """Runs one group: `find` gives what is wrong with a subject, `spoil` makes a spoilt one."""
        healthy = find(subject(None))
        if healthy:
            self.missed.append(f"{name}: found without a fault: {healthy[0]}")
        for fault in faults:
            self.planted += 1
            if not set(find(subject(fault))) - set(healthy):
                self.missed.append(f"{name}: {fault[0]}")


def spoilt_bundle(path):
    """Gives copies of a bundle, spoilt by a fault."""
    original = Bundle.read([path])

    def subject(fault):
        bundle = copy.deepcopy(original)
        if fault:
            fault[1](bundle)
        return bundle
    return subject


def spoilt_files():
    """Gives the texts of all files, one of them spoilt by a fault."""
    texts = {name: (DEPLOY / path).read_text(encoding="utf-8") for name, path in FILES.items()}

    def subject(fault):
        if not fault:
            return texts
        return {**texts, fault[1]: fault[2](texts[fault[1]])}
    return subject


def program(command, folder=None, text=None, environment=None):
    """What a program complains of: nothing if it exits 0."""
    run = subprocess.run(command, cwd=folder, input=text, env=environment, capture_output=True, text=True, check=False)
    return [] if run.returncode == 0 else [run.stdout + run.stderr]


def written(folder, texts):
    """Writes files into a folder."""
    for name, text in texts.items():
        Path(folder, name).write_text(text, encoding="utf-8")


def with_promtool(promtool, texts):
    """Rules and tests, as promtool sees them."""
    with tempfile.TemporaryDirectory() as folder:
        written(folder, {"rules.yaml": texts["rules"], "tests.yaml": texts["tests"]})
        return program([promtool, "check", "rules", "rules.yaml"], folder) + program([promtool, "test", "rules", "tests.yaml"], folder)


def queries_with_promtool(promtool, texts):
    """The dashboard's queries, as promtool sees them."""
    with tempfile.TemporaryDirectory() as folder:
        written(folder, {"queries.yaml": metrics.queries_as_rules(json.loads(texts["dashboard"]))})
        return program([promtool, "check", "rules", "queries.yaml"], folder)


def with_server(server, texts):
    """The server's configuration, as the server sees it."""
    environment = dict(os.environ)
    for role in (*nats_roles.ROLES, "admin", "sys"):
        environment[f"REPULL_{role.upper()}_PASSWORD"] = "placeholder"
    with tempfile.TemporaryDirectory() as folder:
        written(folder, {"permissions.conf": texts["roles"], "accounts-password.conf": texts["accounts"], "n.conf": texts["server"]})
        return program([server, "-t", "-c", "n.conf"], folder, environment=environment)


def manifest_faults(tally, arguments):
    """Faults in manifests."""
    prod = spoilt_bundle(arguments.prod)
    for name in ("POD_SECURITY", "REFERENCES", "HOUSE"):
        tally.group(name.lower(), getattr(faults_manifests, name), prod, manifests.findings)
    for name, path in (("lanes", arguments.lanes), ("hpa", arguments.hpa)):
        tally.group(name, getattr(faults_manifests, name.upper()), spoilt_bundle(path), manifests.findings)
    tally.group("schema", faults_manifests.SCHEMA, prod, lambda bundle: list(schema.findings(bundle, "1.37.0")))
    if arguments.typed:
        tally.group("typed", faults_manifests.TYPED, prod,
                    lambda bundle: program([arguments.typed], text=yaml.safe_dump_all(bundle.objects)))
    else:
        tally.left_out.append("typed")
    if arguments.kube_linter:
        linter = [arguments.kube_linter, "lint", "--config", str(DEPLOY / ".kube-linter.yaml"), "-"]
        tally.group("kube-linter", faults_manifests.LINTER, spoilt_bundle(arguments.hpa),
                    lambda bundle: program(linter, text=yaml.safe_dump_all(bundle.objects)))
    else:
        tally.left_out.append("kube-linter")


def file_faults(tally):
    """Faults in other files that our own checks find."""
    files, known = spoilt_files(), metrics.exported()[0]
    guide = alerts.anchors(alerts.GUIDE.read_text(encoding="utf-8"))
    workspace, base = image.load()[0], image.load()[3]
    scaled_object = nats_values.load()[3]
    kustomization = nats_values.load()[2]
    nkeys = nats_values.load()[1]
    tally.group("metric names", faults_files.METRIC_NAMES, files, lambda texts: metrics.findings(
        yaml.safe_load(texts["rules"]), json.loads(texts["dashboard"]), yaml.safe_load(texts["adapter"]), known)[0])
    tally.group("alerts", faults_files.ALERT_FORM, files, lambda texts: alerts.findings(
        yaml.safe_load(texts["rules"]), yaml.safe_load(texts["tests"]), guide))
    tally.group("roles", faults_files.ROLES, files, lambda texts: nats_roles.findings(
        nats_roles.parse(texts["roles"]), nats_roles.assets()))
    tally.group("values", faults_files.VALUES, files, lambda texts: nats_values.findings(
        yaml.safe_load(texts["values"]), nkeys, kustomization, scaled_object))
    tally.group("image", faults_files.IMAGE, files, lambda texts: image.findings(
        workspace, texts["ignore"], texts["docker"], base, yaml.safe_load(texts["compose"])))


def program_faults(tally, arguments):
    """Faults that other programs find."""
    files = spoilt_files()
    if arguments.promtool:
        tally.group("alert rules", faults_files.ALERT_MEANING, files, lambda texts: with_promtool(arguments.promtool, texts))
        tally.group("queries", faults_files.QUERY_SYNTAX, files, lambda texts: queries_with_promtool(arguments.promtool, texts))
    else:
        tally.left_out.append("promtool")
    if arguments.hadolint:
        tally.group("hadolint", faults_files.DOCKERFILE, files, lambda texts: program([arguments.hadolint, "-"], text=texts["docker"]))
    else:
        tally.left_out.append("hadolint")
    if arguments.nats_server:
        tally.group("nats-server", faults_files.SERVER, files, lambda texts: with_server(arguments.nats_server, texts))
    else:
        tally.left_out.append("nats-server")


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("prod", "lanes", "hpa"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("typed", "kube-linter", "promtool", "hadolint", "nats-server"):
        parser.add_argument(f"--{name}")
    arguments = parser.parse_args()
    tally = Tally()
    manifest_faults(tally, arguments)
    file_faults(tally)
    program_faults(tally, arguments)
    for missed in tally.missed:
        print(f"  not found: {missed}")
    for name in tally.left_out:
        print(f"  left out: the faults for {name}, which is not here")
    print(f"faults: {tally.planted} planted, {tally.planted - len(tally.missed)} found")
    return 1 if tally.missed else 0


if __name__ == "__main__":
    sys.exit(main())
