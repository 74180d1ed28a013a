#!/usr/bin/env python3
"""Validates rendered manifests against Kubernetes' schemas, strictly and offline.

    deploy/checks/schema.py VERSION FILE...

A field that the schema does not have is an error. So is a kind that Kubernetes does not have, except
for the custom resources named here: the tool this builds on only warns of those, which would let a
removed apiVersion pass. Exits 1 if anything is found.
"""

import sys

import kubernetes_validate

from bundle import Bundle, title

# Checked as far as possible by house.py and by the typed parser instead.
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}


def findings(bundle, version):
    """Everything that a server of this version would refuse or drop."""
    for item in bundle.objects:
        if (item.get("apiVersion"), item.get("kind")) in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{title(item)}: Kubernetes {version} has no {item.get('kind')} in {item.get('apiVersion')}"
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.path)
            yield f"{title(item)}: {place}: {error.message}"


def main():
    """The command."""
    version, files = sys.argv[1], sys.argv[2:]
    bundle = Bundle.read(files)
    found = list(findings(bundle, version))
    for finding in found:
        print(f"  {finding}")
    print(f"schema {version}: {len(bundle.objects)} objects, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
