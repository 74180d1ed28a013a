"""Faults planted into rendered manifests. Each is one mistake that a person could make.

A fault is a name and a function that spoils a bundle. The checks must find every one of them, and
nothing in the bundle as it is.
"""

import re

from bundle import containers, pod_spec

# What kustomize appends to a generated name.
HASHED = re.compile(r"-[0-9a-z]{10}")
WORKER, SCHEDULER = ("Deployment", "repull-worker"), ("Deployment", "repull-scheduler")


def thing(bundle, kind, name):
    """The object of this kind and name; the name may leave out a generated hash."""
    for item in bundle.of(kind):
        own = item["metadata"]["name"]
        if own == name or kind == "ConfigMap" and HASHED.fullmatch(own.removeprefix(name)):
            return item
    raise KeyError(f"{kind}/{name} is not in the bundle")


def main_container(bundle, kind, name):
    """The first container of a workload."""
    return containers(thing(bundle, kind, name))[0]


def setter(kind, name, *path, value=None, drop=False):
    """A fault that sets, or drops, one field of an object."""
    def spoil(bundle):
        node = thing(bundle, kind, name)
        for key in path[:-1]:
            node = node[key]
        if drop:
            del node[path[-1]]
        else:
            node[path[-1]] = value
    return spoil


def in_container(where, *path, value=None, drop=False):
    """A fault in the first container of a workload."""
    return setter(*where, "spec", "template", "spec", "containers", 0, *path, value=value, drop=drop)


def in_pod(where, *path, value=None, drop=False):
    """A fault in a workload's pod."""
    return setter(*where, "spec", "template", "spec", *path, value=value, drop=drop)


def remove(kind, name):
    """A fault that leaves an object out."""
    def spoil(bundle):
        bundle.objects.remove(thing(bundle, kind, name))
    return spoil


def add_volume(volume):
    """A fault that adds a volume and mounts it."""
    def spoil(bundle):
        pod_spec(thing(bundle, *WORKER))["volumes"].append(volume)
        main_container(bundle, *WORKER)["volumeMounts"].append({"name": volume["name"], "mountPath": "/x"})
    return spoil


def append(where, field, value):
    """A fault that appends to a list of a container."""
    def spoil(bundle):
        main_container(bundle, *where).setdefault(field, []).append(value)
    return spoil


def trigger(key, value):
    """A fault in the autoscaler's trigger."""
    return setter("ScaledObject", "repull-worker", "spec", "triggers", 0, "metadata", key, value=value)


def data(name, key, value):
    """A fault in a ConfigMap."""
    return setter("ConfigMap", name, "data", key, value=value)


def rename_key(where, old, new):
    """A fault that misspells a field of a container's security context."""
    def spoil(bundle):
        security = main_container(bundle, *where)["securityContext"]
        security[new] = security.pop(old)
    return spoil


def duplicate(kind, name):
    """A fault that has an object twice."""
    def spoil(bundle):
        bundle.objects.append(thing(bundle, kind, name))
    return spoil


# Found by manifests.py in the production overlay.
POD_SECURITY = [
    ("runAsNonRoot is left out while runAsUser is set", in_pod(WORKER, "securityContext", "runAsNonRoot", drop=True)),
    ("a container runs as root", in_container(WORKER, "securityContext", "runAsUser", value=0)),
    ("seccompProfile is left out", in_pod(SCHEDULER, "securityContext", "seccompProfile", drop=True)),
    ("privilege escalation is not denied", in_container(WORKER, "securityContext", "allowPrivilegeEscalation", drop=True)),
    ("capabilities are kept", in_container(SCHEDULER, "securityContext", "capabilities", "drop", value=["NET_RAW"])),
    ("a capability is added", in_container(WORKER, "securityContext", "capabilities", "add", value=["SYS_PTRACE"])),
    ("the root file system can be written", in_container(WORKER, "securityContext", "readOnlyRootFilesystem", value=False)),
    ("a hostPath is mounted", add_volume({"name": "host", "hostPath": {"path": "/"}})),
    ("the pod is on the host's network", in_pod(WORKER, "hostNetwork", value=True)),
    ("a port is opened on the node", in_container(WORKER, "ports", 0, "hostPort", value=8080)),
    ("a probe names a host", in_container(WORKER, "livenessProbe", "httpGet", "host", value="example.org")),
    ("the service account token is mounted", in_pod(WORKER, "automountServiceAccountToken", drop=True)),
    ("requests are left out", in_container(WORKER, "resources", "requests", drop=True)),
    ("the memory limit is left out", in_container(SCHEDULER, "resources", "limits", drop=True)),
    ("the image is `latest`", in_container(WORKER, "image", value="repull/repull:latest")),
    ("the image has no tag", in_container(WORKER, "image", value="repull/repull")),
    ("a password is a variable", append(WORKER, "env", {"name": "NATS_PASSWORD", "value": "x"})),
    ("a Secret is a variable", append(WORKER, "env", {"name": "NATS_USER", "valueFrom": {"secretKeyRef": {"name": "repull-worker-nats", "key": "user"}}})),
]

REFERENCES = [
    ("a selector does not match its pods", setter(*WORKER, "spec", "selector", "matchLabels", "app.kubernetes.io/component", value="workers")),
    ("a budget selects nothing", setter("PodDisruptionBudget", "repull-worker", "spec", "selector", "matchLabels", "app.kubernetes.io/component", value="wroker")),
    ("a budget keeps a pool from draining", setter("PodDisruptionBudget", "repull-scheduler", "spec", "maxUnavailable", value=0)),
    ("a budget lets broken pods block a drain", setter("PodDisruptionBudget", "repull-worker", "spec", "unhealthyPodEvictionPolicy", drop=True)),
    ("a budget is missing", remove("PodDisruptionBudget", "repull-worker")),
    ("a probe asks an unknown port", in_container(WORKER, "readinessProbe", "httpGet", "port", value="metrics")),
    ("a probe is missing", in_container(SCHEDULER, "livenessProbe", drop=True)),
    ("a service account does not exist", in_pod(WORKER, "serviceAccountName", value="repull-workers")),
    ("a ConfigMap does not exist", in_container(WORKER, "envFrom", 1, "configMapRef", "name", value="repull-worker-settings")),
    ("an unknown Secret is mounted", in_pod(WORKER, "volumes", 1, "secret", "secretName", value="nats-worker")),
    ("a mount has no volume", append(WORKER, "volumeMounts", {"name": "cache", "mountPath": "/cache"})),
    ("credentials are not mounted where the variable says", in_container(WORKER, "env", 0, "value", value="/etc/repull/keys/nats.nk")),
    ("the namespace is missing", remove("Namespace", "repull")),
    ("the namespace enforces nothing", setter("Namespace", "repull", "metadata", "labels", "pod-security.kubernetes.io/enforce", value="baseline")),
    ("nothing denies by default", remove("NetworkPolicy", "default-deny")),
    ("only ingress is denied by default", setter("NetworkPolicy", "default-deny", "spec", "policyTypes", value=["Ingress"])),
    ("a policy is for no pod", setter("NetworkPolicy", "repull-nats", "spec", "podSelector", "matchLabels", "app.kubernetes.io/part-of", value="repul")),
    ("NATS cannot be reached", remove("NetworkPolicy", "repull-nats")),
    ("DNS cannot be reached over TCP", setter("NetworkPolicy", "repull-dns", "spec", "egress", 0, "ports", value=[{"protocol": "UDP", "port": 53}])),
    ("metrics cannot be scraped", remove("NetworkPolicy", "repull-metrics")),
    ("a pod monitor selects nothing", setter("PodMonitor", "repull", "spec", "selector", "matchLabels", value={"app": "repull"})),
    ("a pod monitor names an unknown port", setter("PodMonitor", "repull", "spec", "podMetricsEndpoints", 0, "port", value="metrics")),
    ("an object is there twice", duplicate("ServiceAccount", "repull-worker")),
]

HOUSE = [
    ("lagThreshold is not the worker's slots", trigger("lagThreshold", "10")),
    ("the worker's slots change and lagThreshold does not", data("repull-worker", "REPULL_SLOTS", "32")),
    ("the pool has a fixed number of replicas", setter(*WORKER, "spec", "replicas", value=3)),
    ("the endpoint is the client Service", trigger("natsServerMonitoringEndpoint", "nats.nats.svc.cluster.local:8222")),
    ("the endpoint has a scheme", trigger("natsServerMonitoringEndpoint", "http://nats-headless.nats.svc.cluster.local:8222")),
    ("a trigger key is misspelt", trigger("activationLagTreshold", "5")),
    ("the stream is another installation's", trigger("stream", "ACME_JOBS")),
    ("the consumer is a queue that the pool does not serve", trigger("consumer", "mail")),
    ("no account is named", trigger("account", "")),
    ("the fallback is zero", setter("ScaledObject", "repull-worker", "spec", "fallback", "replicas", value=0)),
    ("the target does not exist", setter("ScaledObject", "repull-worker", "spec", "scaleTargetRef", "name", value="worker")),
    ("the pool may outgrow its consumer", setter("ScaledObject", "repull-worker", "spec", "maxReplicaCount", value=5000)),
    ("a drain is longer than the grace period", data("repull-worker", "REPULL_DRAIN", "2m")),
    ("the grace period is the default", in_pod(WORKER, "terminationGracePeriodSeconds", drop=True)),
    ("a shell keeps SIGTERM to itself", in_container(WORKER, "command", value=["/bin/sh", "-c", "repull-worker"])),
    ("a preStop hook eats the grace period", in_container(WORKER, "lifecycle", value={"preStop": {"sleep": {"seconds": 30}}})),
    ("liveness depends on NATS", in_container(WORKER, "livenessProbe", "httpGet", "path", value="/readyz")),
    ("readiness is liveness", in_container(SCHEDULER, "readinessProbe", "httpGet", "path", value="/healthz")),
    ("a served queue has no consumer from the start", data("repull-worker", "REPULL_QUEUES", "default,mail")),
    ("the port of metrics is another", data("repull", "REPULL_HTTP", "0.0.0.0:9090")),
    ("two roles share an inbox", data("repull-worker", "REPULL_INBOX_PREFIX", "_INBOX_scheduler")),
    ("TLS files are mounted and the URL does not insist", data("repull", "NATS_URL", "nats://nats.nats.svc.cluster.local:4222")),
    ("replicas may share a node", in_pod(WORKER, "affinity", drop=True)),
]

# Found by schema.py.
SCHEMA = [
    ("a field is misspelt", rename_key(WORKER, "readOnlyRootFilesystem", "readOnlyRootFileSystem")),
    ("a field is at the wrong place", setter(*WORKER, "spec", "terminationGracePeriodSeconds", value=60)),
    ("a number is a text", in_container(WORKER, "ports", 0, "containerPort", value="http")),
    ("an apiVersion is gone", setter("PodDisruptionBudget", "repull-worker", "apiVersion", value="policy/v1beta1")),
    ("a kind does not exist", setter("NetworkPolicy", "repull-dns", "kind", value="NetworkPolicies")),
]

# Found by the typed parser of custom resources.
TYPED = [
    ("a ScaledObject's field is misspelt", setter("ScaledObject", "repull-worker", "spec", "cooldownperiod", value=300)),
    ("a fallback's number is a text", setter("ScaledObject", "repull-worker", "spec", "fallback", "replicas", value="two")),
    ("a PodMonitor's field is misspelt", setter("PodMonitor", "repull", "spec", "podMetricEndpoints", value=[])),
    ("a rule's field is misspelt", setter("PrometheusRule", "repull", "spec", "groups", 1, "rules", 0, "fore", value="3m")),
]

# Found by manifests.py in the variants.
LANES = [
    ("a formula leaves a lane out", setter("ScaledObject", "repull-worker", "spec", "advanced", "scalingModifiers", "formula", value="high + normal")),
    ("several triggers and no formula", setter("ScaledObject", "repull-worker", "spec", "advanced", "scalingModifiers", value={})),
    ("the formula's target is not the slots", setter("ScaledObject", "repull-worker", "spec", "advanced", "scalingModifiers", "target", value="10")),
]
HPA = [
    ("averageValue is not the slots", setter("HorizontalPodAutoscaler", "repull-worker", "spec", "metrics", 0, "external", "target", "averageValue", value="30")),
    ("the metric is of another queue", setter("HorizontalPodAutoscaler", "repull-worker", "spec", "metrics", 0, "external", "metric", "selector", "matchLabels", "queue", value="mail")),
]

# Found by kube-linter in the variant with a HorizontalPodAutoscaler.
LINTER = [
    ("a container may run as root", in_pod(WORKER, "securityContext", value={})),
    ("the root file system can be written", in_container(SCHEDULER, "securityContext", "readOnlyRootFilesystem", drop=True)),
    ("the image is `latest`", in_container(WORKER, "image", value="repull/repull:latest")),
    ("the memory limit is left out", in_container(WORKER, "resources", "limits", drop=True)),
    ("replicas may share a node", in_pod(SCHEDULER, "affinity", drop=True)),
    ("a budget lets broken pods block a drain", setter("PodDisruptionBudget", "repull-worker", "spec", "unhealthyPodEvictionPolicy", drop=True)),
    ("a budget keeps a pool from draining", setter("PodDisruptionBudget", "repull-scheduler", "spec", "maxUnavailable", value=0)),
    ("a service account does not exist", in_pod(WORKER, "serviceAccountName", value="repull-workers")),
    ("a policy is for no pod", setter("NetworkPolicy", "repull-nats", "spec", "podSelector", "matchLabels", "app.kubernetes.io/part-of", value="repul")),
    ("the autoscaler's target does not exist", setter("HorizontalPodAutoscaler", "repull-worker", "spec", "scaleTargetRef", "name", value="worker")),
]
