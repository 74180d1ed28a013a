#!/usr/bin/env python3
"""Checks the values for the official NATS chart against what the rest of deploy/ relies on.

    deploy/checks/nats_values.py

The chart itself is not at hand where these checks run, and a value it does not know it ignores. What
would go wrong in silence is asserted here: three servers with storage on disk, a monitoring port that
KEDA can find, roles that are mounted and whose variables are set. Exits 1 if anything is found.
"""

import re
import sys
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parent.parent
RELEASE, NAMESPACE = "nats", "nats"


def at(document, path, default=None):
    """The value at a dotted path."""
    for key in path.split("."):
        if not isinstance(document, dict) or key not in document:
            return default
        document = document[key]
    return document


def cluster(values):
    """Replication, storage, and what KEDA's scaler expects of names and ports."""
    if at(values, "config.cluster.enabled") is not True or at(values, "config.cluster.replicas", 0) < 3:
        yield "config.cluster: fewer than three servers, or clustering is off (the chart's default)"
    if at(values, "config.jetstream.enabled") is not True:
        yield "config.jetstream: JetStream is off (the chart's default)"
    if at(values, "config.jetstream.fileStore.pvc.enabled") is not True or not at(values, "config.jetstream.fileStore.pvc.size"):
        yield "config.jetstream.fileStore.pvc: no volume of an explicit size"
    if at(values, "config.monitor.enabled") is not True or at(values, "config.monitor.port") != 8222:
        yield "config.monitor: not on port 8222, which KEDA's endpoint names"
    if at(values, "config.monitor.tls.enabled"):
        yield "config.monitor.tls: KEDA's scaler has no setting for an authority"
    if at(values, "service.ports.monitor.enabled"):
        yield "service.ports.monitor: the unauthenticated port is on the client Service"
    if at(values, "config.serverNamePrefix"):
        yield "config.serverNamePrefix: KEDA compares server names with pod names"
    if at(values, "config.cluster.noAdvertise") is not True:
        yield "config.cluster.noAdvertise: KEDA would build addresses from advertised ones"
    rules = at(values, "podTemplate.topologySpreadConstraints", {})
    if at(rules.get("kubernetes.io/hostname", {}), "whenUnsatisfiable") != "DoNotSchedule":
        yield "podTemplate.topologySpreadConstraints: two servers may share a node"


def hardening(values):
    """The namespace enforces `restricted`, and the chart sets no security context of its own."""
    pod = at(values, "podTemplate.merge.spec.securityContext", {})
    if pod.get("runAsNonRoot") is not True or at(pod, "seccompProfile.type") != "RuntimeDefault" or not pod.get("fsGroup"):
        yield "podTemplate.merge.spec.securityContext: not what `restricted` and a volume of its own need"
    for name in ("container", "reloader", "promExporter"):
        own = at(values, f"{name}.merge.securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or at(own, "capabilities.drop") != ["ALL"]:
            yield f"{name}.merge.securityContext: not what `restricted` needs"
        if not at(values, f"{name}.merge.resources.limits.memory"):
            yield f"{name}.merge.resources: no memory limit"
    if at(values, "natsBox.enabled") is not False:
        yield "natsBox: its container runs as root, and `restricted` refuses it"


def roles(values, accounts, kustomization):
    """The accounts file is included from where the ConfigMap is mounted, and its variables are set."""
    included = at(values, "config.merge", {}).get("zz$include", "")
    generated = next(iter(kustomization.get("configMapGenerator") or []), {})
    if included.rsplit("/", 1)[-1] not in (generated.get("files") or []):
        yield f"config.merge: includes {included}, which the ConfigMap {generated.get('name')} does not hold"
    volume = next((patch["value"] for patch in at(values, "podTemplate.patch", []) if patch["path"] == "/spec/volumes/-"), {})
    mount = next((patch["value"] for patch in at(values, "container.patch", []) if patch["path"] == "/volumeMounts/-"), {})
    if at(volume, "configMap.name") != generated.get("name") or mount.get("name") != volume.get("name"):
        yield "podTemplate.patch, container.patch: the ConfigMap of the roles is not mounted"
    if "/etc/" + included.removeprefix("../").rpartition("/")[0] != mount.get("mountPath"):
        yield f"config.merge: includes {included}, and the roles are mounted at {mount.get('mountPath')}"
    variables = set(re.findall(r"\$(REPULL_\w+_NKEY)", accounts))
    for missing in sorted(variables - set(at(values, "container.env", {}))):
        yield f"container.env: {missing} is not set, and the server would not start"


def autoscaler(scaled_object, accounts):
    """The account and host that KEDA is told exist."""
    for trigger in scaled_object["spec"]["triggers"]:
        metadata = trigger["metadata"]
        if metadata.get("account") and not re.search(rf"^  {re.escape(metadata['account'])} \{{", accounts, re.MULTILINE):
            yield f"ScaledObject: account `{metadata['account']}` is not in the accounts file"
        host = metadata["natsServerMonitoringEndpoint"].partition(":")[0]
        if host != f"{RELEASE}-headless.{NAMESPACE}.svc.cluster.local":
            yield f"ScaledObject: host {host} is not the headless Service of release {RELEASE} in namespace {NAMESPACE}"


def findings(values, accounts, kustomization, scaled_object):
    """Everything that is wrong."""
    return [
        *cluster(values), *hardening(values), *roles(values, accounts, kustomization),
        *autoscaler(scaled_object, accounts),
    ]


def load():
    """The files."""
    def read(path):
        return (DEPLOY / path).read_text(encoding="utf-8")

    return (
        yaml.safe_load(read("nats/values-r3.yaml")),
        read("nats/accounts-nkey.conf"),
        yaml.safe_load(read("nats/kustomization.yaml")),
        yaml.safe_load(read("kubernetes/components/keda/scaled-object.yaml")),
    )


def main():
    """The command."""
    found = findings(*load())
    for finding in found:
        print(f"  {finding}")
    print(f"nats values: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
