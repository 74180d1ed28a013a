#!/usr/bin/env python3
"""Checks the roles in deploy/nats: least permissions, and names that exist.

    deploy/checks/nats_roles.py

Reads permissions.conf itself, so it needs no server; tools/check-deploy lets a real nats-server parse
the files as well. What each role can and cannot do is proven against a server by the scenario tests.
Exits 1 if anything is found.
"""

import re
import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
SOURCES = DEPLOY.parent / "shared" / "src"
ROLES = ("producer", "worker", "scheduler", "operator", "observer")
JOB_STREAMS = ("REPULL_JOBS", "REPULL_LATER", "REPULL_DEAD", "REPULL_RESULTS")
# Roles that may create consumers on streams that hold jobs: the server does not check where a
# consumer delivers to, so with one a client can copy jobs anywhere.
CONSUMER_MAKERS = {"scheduler", "operator"}


def parse(text):
    """The lists of a permissions file: {role: {"publish": [...], "subscribe": [...], "deny": [...]}}."""
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    roles = {}
    for role, body in re.findall(r"^REPULL_([A-Z]+) = \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        publish, _, subscribe = body.partition("subscribe =")
        denied = re.search(r"deny = \[(.*?)\]", publish, re.DOTALL)
        roles[role.lower()] = {
            "publish": re.findall(r'"([^"]+)"', re.sub(r"deny = \[.*?\]", "", publish, flags=re.DOTALL)),
            "subscribe": re.findall(r'"([^"]+)"', subscribe),
            "deny": re.findall(r'"([^"]+)"', denied.group(1)) if denied else [],
        }
    return roles


def assets():
    """The streams and buckets of the topology, from its source; empty where that is not there."""
    found = set()
    for path in ("topology/table.rs", "wire/subject.rs"):
        file = SOURCES / path
        if file.exists():
            found |= set(re.findall(r'"([A-Z]{4,})"', file.read_text(encoding="utf-8")))
    return found


def covers(pattern, subject):
    """Whether a subject pattern takes a subject."""
    pattern, subject = pattern.split("."), subject.split(".")
    for position, token in enumerate(pattern):
        if token == ">":
            return len(subject) > position
        if position >= len(subject) or (token != "*" and token != subject[position]):
            return False
    return len(pattern) == len(subject)


def allowed(role, subject):
    """Whether a role may publish a subject."""
    return any(covers(pattern, subject) for pattern in role["publish"]) and not any(
        covers(pattern, subject) for pattern in role["deny"]
    )


def findings(roles, known_assets):
    """Everything that is wrong."""
    found = [f"role {name} is missing" for name in ROLES if name not in roles]
    for name, role in roles.items():
        found += [f"{name}: {finding}" for finding in role_findings(name, role)]
        if known_assets:
            mentioned = set(re.findall(r"\bREPULL_([A-Z]+)", " ".join(role["publish"] + role["subscribe"])))
            found += [f"{name}: REPULL_{asset} is no stream or bucket of the topology" for asset in sorted(mentioned - known_assets)]
    return found


def role_findings(name, role):
    """What is wrong with one role."""
    for pattern in role["publish"] + role["subscribe"]:
        if pattern in (">", "$JS.>", "$JS.API.>", "_INBOX.>", "$KV.>", "$SYS.>"):
            yield f"`{pattern}` allows far more than the role needs"
    if not any(pattern.startswith(f"_INBOX_{name}.") for pattern in role["subscribe"]):
        yield f"may not subscribe to its own inbox _INBOX_{name}.>"
    for pattern in role["subscribe"]:
        if pattern.startswith("_INBOX") and not pattern.startswith(f"_INBOX_{name}."):
            yield f"may read the inbox {pattern} of others"
    if name not in CONSUMER_MAKERS:
        for stream in JOB_STREAMS:
            if allowed(role, f"$JS.API.CONSUMER.CREATE.{stream}.x"):
                yield f"may create consumers on {stream}"
    for subject in ("$JS.API.STREAM.DELETE.REPULL_JOBS", "$JS.API.STREAM.RESTORE.REPULL_JOBS", "$JS.API.ACCOUNT.PURGE.REPULL"):
        if allowed(role, subject):
            yield f"may publish {subject}"
    if name in ("producer", "worker", "observer"):
        for verb in ("CREATE", "UPDATE", "PURGE"):
            if allowed(role, f"$JS.API.STREAM.{verb}.REPULL_JOBS"):
                yield f"may publish $JS.API.STREAM.{verb}.REPULL_JOBS"
    if name == "observer":
        for stream in JOB_STREAMS:
            if allowed(role, f"$JS.API.STREAM.MSG.GET.{stream}") or allowed(role, f"$JS.API.DIRECT.GET.{stream}.x"):
                yield f"may read messages of {stream}"
        if any(allowed(role, f"repull.{place}.q.t.i") for place in ("jobs", "later", "dead", "results")):
            yield "may publish jobs"


def main():
    """The command."""
    roles = parse((DEPLOY / "nats/permissions.conf").read_text(encoding="utf-8"))
    found = findings(roles, assets())
    for finding in found:
        print(f"  {finding}")
    subjects = sum(len(role["publish"]) + len(role["subscribe"]) for role in roles.values())
    print(f"nats roles: {len(roles)} roles, {subjects} subjects, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
