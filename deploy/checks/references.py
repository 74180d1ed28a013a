"""Cross references: everything that names something else must name something that is there.

Kubernetes accepts a budget that selects nothing, a probe on a port that does not exist, a policy for
pods of another label; each then fails in silence, or at the worst moment.
"""

from bundle import (
    CLUSTER_WIDE, all_containers, containers, labels_of, matches, name_of, namespace_of, pod_labels,
    pod_spec, title,
)

# Secrets that are made by hand or by a secret store, never part of the manifests.
EXTERNAL_SECRETS = {
    "repull-scheduler-nats", "repull-worker-nats", "repull-scheduler-tls", "repull-worker-tls",
    "nats-server-tls", "nats-routes-tls",
}
# Service accounts that every namespace has.
BUILT_IN_ACCOUNTS = {"", "default"}


def check(bundle):
    """All findings on references in a bundle."""
    for part in (identity, selectors, accounts, sources, mounts, ports, budgets, services, policies, monitors):
        yield from part(bundle)


def identity(bundle):
    """Names are there and not twice; namespaces exist; secrets stay out."""
    seen = set()
    namespaces = {name_of(item) for item in bundle.of("Namespace")}
    for item in bundle.objects:
        if not item.get("apiVersion") or not item.get("kind") or not name_of(item):
            yield f"{title(item)}: apiVersion, kind or name is missing"
        key = (item.get("kind"), namespace_of(item), name_of(item))
        if key in seen:
            yield f"{title(item)}: there are two of it"
        seen.add(key)
        if item.get("kind") not in CLUSTER_WIDE and namespace_of(item) not in namespaces:
            yield f"{title(item)}: namespace `{namespace_of(item)}` is not among the objects"
        if item.get("kind") == "Secret":
            yield f"{title(item)}: a Secret is part of the manifests"
    for item in bundle.of("Namespace"):
        if labels_of(item).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{title(item)}: does not enforce the pod security standard `restricted`"


def selectors(bundle):
    """A workload must select its own pods, and by labels that never change."""
    for workload in bundle.workloads():
        selector = workload["spec"].get("selector") or {}
        if workload["kind"] != "Job" and not matches(selector, pod_labels(workload)):
            yield f"{title(workload)}: its selector does not match the labels of its own pods"
        for label in ("app.kubernetes.io/version", "app.kubernetes.io/managed-by"):
            if label in (selector.get("matchLabels") or {}):
                yield f"{title(workload)}: {label} is in the selector, which can never be changed"


def accounts(bundle):
    """Service accounts exist and bring no token; nothing grants rights on the Kubernetes API."""
    for workload in bundle.workloads():
        name = pod_spec(workload).get("serviceAccountName", "")
        if name not in BUILT_IN_ACCOUNTS and not bundle.find("ServiceAccount", namespace_of(workload), name):
            yield f"{title(workload)}: service account `{name}` is not among the objects"
    for item in bundle.of("ServiceAccount"):
        if item.get("automountServiceAccountToken") is not False:
            yield f"{title(item)}: automountServiceAccountToken is not false"
    for item in bundle.of("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{title(item)}: grants rights on the Kubernetes API, which nothing here uses"


def sources(bundle):
    """ConfigMaps are among the objects; Secrets are ones that the documentation names."""
    for workload in bundle.workloads():
        for kind, name in referenced(workload):
            if kind == "ConfigMap" and not bundle.find(kind, namespace_of(workload), name):
                yield f"{title(workload)}: ConfigMap `{name}` is not among the objects"
            if kind == "Secret" and name not in EXTERNAL_SECRETS:
                yield f"{title(workload)}: Secret `{name}` is not one that docs/OPERATING.md tells to make"


def referenced(workload):
    """Every ConfigMap and Secret that a workload's pods read."""
    for volume in pod_spec(workload).get("volumes") or []:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"].get("name")
        if "secret" in volume:
            yield "Secret", volume["secret"].get("secretName")
    for container in all_containers(workload):
        for source in container.get("envFrom") or []:
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"].get("name")
            if "secretRef" in source:
                yield "Secret", source["secretRef"].get("name")
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            if "configMapKeyRef" in origin:
                yield "ConfigMap", origin["configMapKeyRef"].get("name")
            if "secretKeyRef" in origin:
                yield "Secret", origin["secretKeyRef"].get("name")


def mounts(bundle):
    """Mounts have volumes, volumes have mounts, and files that variables name lie in a mount."""
    for workload in bundle.workloads():
        volumes = {volume["name"] for volume in pod_spec(workload).get("volumes") or []}
        claims = {name_of(claim) for claim in workload["spec"].get("volumeClaimTemplates") or []}
        mounted = set()
        for container in all_containers(workload):
            paths = []
            for mount in container.get("volumeMounts") or []:
                mounted.add(mount["name"])
                paths.append(mount["mountPath"].rstrip("/") + "/")
                if mount["name"] not in volumes | claims:
                    yield f"{title(workload)}: volume `{mount['name']}` is mounted and not defined"
            for variable in container.get("env") or []:
                value = str(variable.get("value") or "")
                if value.startswith("/etc/repull/") and not any(value.startswith(path) for path in paths):
                    yield f"{title(workload)}: {variable['name']} names {value}, where nothing is mounted"
        for name in sorted(volumes - mounted):
            yield f"{title(workload)}: volume `{name}` is defined and mounted nowhere"


def ports(bundle):
    """Probes exist and ask a port that the container has."""
    for workload in bundle.workloads():
        for container in containers(workload):
            known = {port.get("name") for port in container.get("ports") or []}
            known |= {port.get("containerPort") for port in container.get("ports") or []}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                handler = (container.get(probe) or {}).get("httpGet")
                if handler and handler.get("port") not in known:
                    yield f"{title(workload)}: {probe} asks port `{handler.get('port')}`, which {container['name']} does not have"
        main = containers(workload)[0]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe not in main:
                yield f"{title(workload)}: container {main['name']} has no {probe}"


def budgets(bundle):
    """Budgets select pods, and can always be satisfied."""
    for item in bundle.of("PodDisruptionBudget"):
        spec = item["spec"]
        if not bundle.selected(namespace_of(item), spec.get("selector")):
            yield f"{title(item)}: selects no pods"
        if "minAvailable" in spec or "maxUnavailable" not in spec:
            yield f"{title(item)}: uses minAvailable; a pool that may be at zero could not be drained"
        if spec.get("maxUnavailable") in (0, "0", "0%"):
            yield f"{title(item)}: maxUnavailable is 0, so no node could be drained"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{title(item)}: pods that are not Ready may block evictions (unhealthyPodEvictionPolicy)"
    for workload in bundle.of("Deployment"):
        covered = any(
            workload in bundle.selected(namespace_of(item), item["spec"].get("selector"))
            for item in bundle.of("PodDisruptionBudget")
        )
        if not covered:
            yield f"{title(workload)}: no disruption budget covers it"


def services(bundle):
    """Services select pods and point to ports that those have."""
    for item in bundle.of("Service"):
        chosen = bundle.selected(namespace_of(item), {"matchLabels": item["spec"].get("selector") or {}})
        if not chosen:
            yield f"{title(item)}: selects no pods"
        for port in item["spec"].get("ports") or []:
            wanted = port.get("targetPort", port.get("port"))
            if chosen and not any(has_port(workload, wanted) for workload in chosen):
                yield f"{title(item)}: targetPort `{wanted}` is a port of none of its pods"


def has_port(workload, wanted):
    """Whether a workload's pods have a port of this name or number."""
    return any(
        wanted in (port.get("name"), port.get("containerPort"))
        for container in containers(workload)
        for port in container.get("ports") or []
    )


def policies(bundle):
    """Every namespace denies by default; no policy is for nobody; what must get through does."""
    for namespace in {namespace_of(workload) for workload in bundle.workloads()}:
        own = [item for item in bundle.of("NetworkPolicy") if namespace_of(item) == namespace]
        denying = [item for item in own if not item["spec"].get("podSelector")]
        if not any(set(item["spec"].get("policyTypes") or []) == {"Ingress", "Egress"}
                   and not item["spec"].get("ingress") and not item["spec"].get("egress") for item in denying):
            yield f"Namespace/{namespace}: no policy denies all traffic by default, in both directions"
        for item in own:
            chosen = bundle.selected(namespace, item["spec"].get("podSelector"))
            if not chosen:
                yield f"{title(item)}: selects no pods"
            for rule in item["spec"].get("ingress") or []:
                for port in rule.get("ports") or []:
                    if chosen and not any(has_port(workload, port.get("port")) for workload in chosen):
                        yield f"{title(item)}: admits port `{port.get('port')}`, which none of its pods has"
    for workload in bundle.component("scheduler") + bundle.component("worker"):
        yield from reach(bundle, workload)


def reach(bundle, workload):
    """Repull's pods must reach DNS and NATS, and be reached for their metrics."""
    allowed = {"ingress": set(), "egress": set()}
    for item in bundle.of("NetworkPolicy"):
        if workload not in bundle.selected(namespace_of(item), item["spec"].get("podSelector")):
            continue
        for direction in allowed:
            for rule in item["spec"].get(direction) or []:
                allowed[direction] |= {(port.get("protocol", "TCP"), port.get("port")) for port in rule.get("ports") or []}
    for wanted, purpose in ((("UDP", 53), "DNS"), (("TCP", 53), "DNS"), (("TCP", 4222), "NATS")):
        if wanted not in allowed["egress"]:
            yield f"{title(workload)}: no policy lets it reach {purpose} ({wanted[0]} {wanted[1]})"
    if not {("TCP", "http"), ("TCP", 8080)} & allowed["ingress"]:
        yield f"{title(workload)}: no policy admits monitoring to its metrics"


def monitors(bundle):
    """Pod monitors select pods and name a port that those have."""
    for item in bundle.of("PodMonitor"):
        chosen = bundle.selected(namespace_of(item), item["spec"].get("selector"))
        if not chosen:
            yield f"{title(item)}: selects no pods"
        for endpoint in item["spec"].get("podMetricsEndpoints") or []:
            for workload in chosen:
                if not has_port(workload, endpoint.get("port")):
                    yield f"{title(item)}: scrapes port `{endpoint.get('port')}`, which {title(workload)} does not have"
