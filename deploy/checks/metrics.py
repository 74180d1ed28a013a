#!/usr/bin/env python3
"""Checks that alert rules, dashboard and autoscaler rules ask only for metrics that are exported.

A query for a name that nobody exports is valid PromQL: the panel stays empty and the alert silent.
Names, types and labels come from the tables of docs/METRICS.md where it exists, else from metrics.txt.

    deploy/checks/metrics.py [--queries-as-rules FILE]

--queries-as-rules also writes every query of the dashboard as a recording rule, with Grafana's
variables filled in, so that promtool can parse them. Exits 1 if anything is found.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parent.parent
TABLE = DEPLOY.parent / "docs" / "METRICS.md"
TYPES = ("counter", "gauge", "histogram")
# Labels that Prometheus adds to whatever it scrapes.
TARGET_LABELS = {"namespace", "instance", "pod", "container", "job", "endpoint", "le"}
NAME = re.compile(r"\b(?:[a-z_]+:)?repull_[a-z0-9_]+(?::[a-z0-9_]+)?")
MATCHERS = re.compile(r"((?:[a-z_]+:)?repull_[a-z0-9_:]+)\s*\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")


def exported():
    """Every exported metric: {name: (type, labels)}."""
    known = from_table(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    if known:
        return known, "docs/METRICS.md"
    text = (Path(__file__).resolve().parent / "metrics.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        words = line.split()
        if words and not line.startswith("#"):
            known[words[0]] = (words[1], set(words[2:]))
    return known, "deploy/checks/metrics.txt"


def from_table(text):
    """The rows of Markdown tables that start with a metric's name in backticks.

    The type is the cell that holds one of the three words; labels are all other words in backticks
    or braces in the first cells, so the table may put them where it likes.
    """
    known = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        name = re.match(r"`(repull_[a-z0-9_]+)", cells[0])
        kind = next((cell.strip("`").lower() for cell in cells if cell.strip("`").lower() in TYPES), None)
        if name and kind:
            words = re.findall(r"[a-z_]+", " ".join(re.findall(r"[`{]([^`{}]*)[`}]", " ".join(cells))))
            known[name.group(1)] = (kind, set(words) - {name.group(1)})
    return known


def series(known):
    """Every series name that a scrape shows: histograms have three."""
    names = {}
    for name, (kind, labels) in known.items():
        if kind == "histogram":
            names.update({f"{name}_{part}": labels for part in ("bucket", "sum", "count")})
        else:
            names[name] = labels
    return names


def check(expression, names, recorded):
    """What is wrong with one expression."""
    for name in sorted(set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))):
        if name not in names and name not in recorded:
            yield f"`{name}` is exported by nobody"
    for name, matchers in MATCHERS.findall(expression):
        for label in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', "", matchers)):
            if name in names and label not in names[name] | TARGET_LABELS:
                yield f"`{name}` has no label `{label}`"
    everything = set().union(TARGET_LABELS, *names.values())
    for labels in GROUPING.findall(expression):
        for label in filter(None, (label.strip() for label in labels.split(","))):
            if label not in everything:
                yield f"no metric has the label `{label}`"


def rule_expressions(document):
    """Every rule of a rules file: (where, expression)."""
    for group in document.get("groups") or []:
        for rule in group["rules"]:
            yield f"rule {rule.get('alert') or rule.get('record')}", rule["expr"]


def recorded_names(document):
    """Names that the rules record."""
    return {rule["record"] for group in document.get("groups") or [] for rule in group["rules"] if "record" in rule}


def dashboard_expressions(document):
    """Every query of the dashboard: (where, expression)."""
    for panel in document.get("panels") or []:
        for target in panel.get("targets") or []:
            yield f"panel {panel['title']}", target["expr"]
    for annotation in document.get("annotations", {}).get("list", []):
        yield f"annotation {annotation['name']}", annotation["expr"]


def variable_names(document):
    """Metrics that the dashboard's variables are filled from."""
    for variable in document.get("templating", {}).get("list", []):
        if variable.get("type") == "query":
            yield f"variable {variable['name']}", variable["definition"].removeprefix("label_values(").rpartition(",")[0]


def substituted(expression):
    """A query with Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "5m").replace("$__interval", "1m").replace("$__range", "1h")


def adapter_expressions(document):
    """The queries of the metrics adapter's rules."""
    for rule in document["rules"]["external"]:
        yield f"adapter rule {rule['name']['as']}", rule["seriesQuery"]
        yield f"adapter rule {rule['name']['as']}", rule["metricsQuery"].replace("<<.LabelMatchers>>", "")


def collect(rules, dashboard, adapter):
    """All expressions of the three documents."""
    yield from rule_expressions(rules)
    yield from dashboard_expressions(dashboard)
    yield from variable_names(dashboard)
    yield from adapter_expressions(adapter)


def findings(rules, dashboard, adapter, known):
    """Everything that is wrong, and how many expressions were read."""
    names, recorded = series(known), recorded_names(rules)
    found, read = [], 0
    for where, expression in collect(rules, dashboard, adapter):
        read += 1
        found += [f"{where}: {finding}" for finding in check(expression, names, recorded)]
    return found, read


def load():
    """The three documents."""
    rules = yaml.safe_load((DEPLOY / "alerts/rules.yaml").read_text(encoding="utf-8"))
    dashboard = json.loads((DEPLOY / "grafana/repull.json").read_text(encoding="utf-8"))
    adapter = yaml.safe_load((DEPLOY / "kubernetes/components/hpa/prometheus-adapter.yaml").read_text(encoding="utf-8"))
    return rules, dashboard, adapter


def queries_as_rules(dashboard):
    """The dashboard's queries as a rules file."""
    expressions = [substituted(expression) for _, expression in dashboard_expressions(dashboard)]
    rules = [{"record": f"dashboard:query:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    return yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]})


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries-as-rules", metavar="FILE")
    arguments = parser.parse_args()
    rules, dashboard, adapter = load()
    known, source = exported()
    found, read = findings(rules, dashboard, adapter, known)
    for finding in found:
        print(f"  {finding}")
    if arguments.queries_as_rules:
        Path(arguments.queries_as_rules).write_text(queries_as_rules(dashboard), encoding="utf-8")
    print(f"metrics: {read} expressions against {len(known)} metrics of {source}, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
