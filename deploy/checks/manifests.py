#!/usr/bin/env python3
"""Checks rendered manifests: pod security, cross references, and Repull's own rules.

    deploy/checks/manifests.py [--namespace NAME] [--platform] FILE...

All files together are one bundle. --namespace is for objects that name none, as helm renders them;
--platform leaves Repull's own rules out, for bundles without it. Exits 1 if anything is found.
"""

import argparse
import sys

import house
import pods
import references
from bundle import Bundle


def findings(bundle, platform=False):
    """Everything that is wrong with a bundle, in a stable order."""
    parts = [pods, references] + ([] if platform else [house])
    return [finding for part in parts for finding in part.check(bundle)]


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--namespace")
    parser.add_argument("--platform", action="store_true")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    bundle = Bundle.read(arguments.files, arguments.namespace)
    found = findings(bundle, arguments.platform)
    for finding in found:
        print(f"  {finding}")
    print(f"manifests: {len(bundle.objects)} objects, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
