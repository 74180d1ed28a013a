"""A set of rendered manifests, indexed for the checks.

A bundle is everything that one `kubectl apply` would send: objects by kind and name, the pods that
workloads make, and the settings that a container sees through its variables.
"""

import yaml

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
CLUSTER_WIDE = ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")


class Bundle:
    """The objects of one rendering, and what can be asked of them."""

    def __init__(self, documents, default_namespace=None):
        self.objects = [document for document in documents if document]
        for item in self.objects:
            metadata = item.setdefault("metadata", {})
            if default_namespace and item.get("kind") not in CLUSTER_WIDE:
                metadata.setdefault("namespace", default_namespace)

    @classmethod
    def read(cls, paths, default_namespace=None):
        """The objects of several files together."""
        documents = []
        for path in paths:
            with open(path, encoding="utf-8") as file:
                documents.extend(yaml.safe_load_all(file))
        return cls(documents, default_namespace)

    def of(self, *kinds):
        """All objects of these kinds."""
        return [item for item in self.objects if item.get("kind") in kinds]

    def find(self, kind, namespace, name):
        """The object of this name, or None."""
        for item in self.of(kind):
            if name_of(item) == name and namespace_of(item) == namespace:
                return item
        return None

    def workloads(self):
        """Everything that makes pods."""
        return self.of(*WORKLOADS)

    def component(self, component):
        """Repull's own Deployments of one component."""
        return [
            item
            for item in self.of("Deployment")
            if labels_of(item).get("app.kubernetes.io/name") == "repull"
            and labels_of(item).get("app.kubernetes.io/component") == component
        ]

    def selected(self, namespace, selector):
        """The workloads of a namespace whose pods a label selector takes. An empty one takes all."""
        return [
            item
            for item in self.workloads()
            if namespace_of(item) == namespace and matches(selector, pod_labels(item))
        ]

    def settings(self, workload):
        """The variables of a workload's first container, by name."""
        found = {}
        container = containers(workload)[0]
        for source in container.get("envFrom") or []:
            reference = source.get("configMapRef")
            config = reference and self.find("ConfigMap", namespace_of(workload), reference["name"])
            found.update((config or {}).get("data") or {})
        for variable in container.get("env") or []:
            found[variable["name"]] = variable.get("value")
        return found


def name_of(item):
    """An object's name."""
    return item.get("metadata", {}).get("name", "")


def namespace_of(item):
    """An object's namespace."""
    return item.get("metadata", {}).get("namespace", "")


def labels_of(item):
    """An object's own labels."""
    return item.get("metadata", {}).get("labels") or {}


def title(item):
    """How findings name an object."""
    return f"{item.get('kind', '?')}/{name_of(item) or '?'}"


def pod_template(workload):
    """The template of a workload's pods."""
    return (workload.get("spec") or {}).get("template") or {}


def pod_labels(workload):
    """The labels of a workload's pods."""
    return (pod_template(workload).get("metadata") or {}).get("labels") or {}


def pod_spec(workload):
    """The specification of a workload's pods."""
    return pod_template(workload).get("spec") or {}


def containers(workload):
    """A workload's containers, without the ones that run before."""
    return pod_spec(workload).get("containers") or []


def all_containers(workload):
    """Every container of a workload's pods."""
    spec = pod_spec(workload)
    return (spec.get("initContainers") or []) + (spec.get("containers") or [])


def matches(selector, labels):
    """Whether a label selector takes an object with these labels."""
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        value, values = labels.get(rule["key"]), rule.get("values") or []
        held = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not held.get(rule["operator"], False):
            return False
    return True


def seconds(text):
    """A duration such as `50s`, `2m` or `1m30s` in seconds; None if it is none."""
    total, number = 0.0, ""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    text, position = str(text), 0
    while position < len(text):
        if text[position].isdigit() or text[position] == ".":
            number += text[position]
            position += 1
            continue
        unit = "ms" if text.startswith("ms", position) else text[position]
        if unit not in units or not number:
            return None
        total, number = total + float(number) * units[unit], ""
        position += len(unit)
    return None if number or not text else total
