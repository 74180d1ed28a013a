"""Pod security: the `restricted` standard, and what it leaves out.

Written from the standard's own rules. It is checked here because the API server would only say so at
the apply, and because the linters at hand accept a pod that the standard refuses (`runAsUser` set and
`runAsNonRoot` missing, for one).
"""

from bundle import all_containers, pod_spec, title

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image",
    "persistentVolumeClaim", "projected", "secret",
}
SECRET_WORDS = ("PASSWORD", "TOKEN", "SECRET", "SEED", "APIKEY", "PRIVATE")


def check(bundle):
    """All findings on the pods of a bundle."""
    for workload in bundle.workloads():
        where = title(workload)
        yield from (f"{where}: {finding}" for finding in restricted_pod(workload))
        for container in all_containers(workload):
            inside = f"{where}, container {container.get('name')}"
            yield from (f"{inside}: {finding}" for finding in restricted_container(workload, container))
            yield from (f"{inside}: {finding}" for finding in hygiene(container))


def restricted_pod(workload):
    """The pod's own part of the standard."""
    spec = pod_spec(workload)
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set, and `restricted` forbids it"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if kinds - VOLUMES:
            yield f"volume {volume.get('name')} is a {sorted(kinds - VOLUMES)[0]}, which `restricted` forbids"
    security = spec.get("securityContext") or {}
    if security.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if security.get("sysctls"):
        yield "sysctls are set"
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false, and nothing here uses the Kubernetes API"


def restricted_container(workload, container):
    """A container's part of the standard, with what it inherits from its pod."""
    inherited = pod_spec(workload).get("securityContext") or {}
    own = container.get("securityContext") or {}

    def effective(field):
        return own[field] if field in own else inherited.get(field)

    if effective("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if effective("runAsUser") == 0:
        yield "runAsUser is 0"
    if (effective("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is neither RuntimeDefault nor Localhost"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield "privileged is set"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "capabilities do not drop ALL"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"capabilities add {capabilities['add']}"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"port {port.get('name')} has a hostPort"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for handler in ("httpGet", "tcpSocket"):
            if ((container.get(probe) or {}).get(handler) or {}).get("host"):
                yield f"{probe} names a host, which the standard forbids since 1.34"


def hygiene(container):
    """What the standard leaves open and should not be."""
    if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    resources = container.get("resources") or {}
    for resource in ("cpu", "memory"):
        if resource not in (resources.get("requests") or {}):
            yield f"no {resource} request"
    if "memory" not in (resources.get("limits") or {}):
        yield "no memory limit"
    yield from image(container.get("image") or "")
    yield from secret_variables(container)


def image(reference):
    """An image must say which one it is."""
    if "@sha256:" in reference:
        return
    tag = reference.rsplit("/", 1)[-1].partition(":")[2]
    if not tag:
        yield f"image {reference or '(none)'} has neither a tag nor a digest"
    elif tag == "latest":
        yield f"image {reference} is whatever `latest` is that day"


def secret_variables(container):
    """Secrets belong into files: variables show up in dumps and in child processes."""
    seen = set()
    for variable in container.get("env") or []:
        name = variable.get("name", "")
        if name in seen:
            yield f"variable {name} is set twice"
        seen.add(name)
        if (variable.get("valueFrom") or {}).get("secretKeyRef"):
            yield f"variable {name} takes its value from a Secret; mount it as a file"
        if variable.get("value") and any(word in name.upper() for word in SECRET_WORDS):
            yield f"variable {name} holds a secret in plain text"
    for source in container.get("envFrom") or []:
        if source.get("secretRef"):
            yield "envFrom takes a whole Secret; mount it as a file"
