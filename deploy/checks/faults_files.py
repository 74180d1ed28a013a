"""Faults planted into files that are no manifests: rules, tests, dashboard, NATS roles and values,
image, compose file. A fault is a name, what it spoils, and a function of the text that spoils it.
"""

import json


def replaced(old, new):
    """A fault that replaces a text, which must be there."""
    def spoil(text):
        if old not in text:
            raise KeyError(f"`{old}` is not in the file")
        return text.replace(old, new, 1)
    return spoil


def panel_query(change):
    """A fault in the first query of the dashboard."""
    def spoil(text):
        document = json.loads(text)
        target = next(panel for panel in document["panels"] if panel.get("targets"))["targets"][0]
        target["expr"] = change(target["expr"])
        return json.dumps(document)
    return spoil


# Found by metrics.py.
METRIC_NAMES = [
    ("a rule asks for a metric that nobody exports", "rules", replaced("repull_queue_orphans", "repull_queue_orphaned")),
    ("a rule asks for a label that the metric has not", "rules", replaced('outcome=~"failed|retrying"', 'status=~"failed|retrying"')),
    ("a panel asks for a metric that nobody exports", "dashboard", panel_query(lambda text: text.replace("_age_seconds", "_age_ms"))),
    ("a panel groups by a label that nothing has", "dashboard", panel_query(lambda text: text.replace("by (queue)", "by (que)"))),
    ("the adapter asks for a metric that nobody exports", "adapter", replaced("max by (queue) (repull_queue_ready", "max by (queue) (repull_queue_waiting")),
]

# Found by promtool, in the dashboard's queries.
QUERY_SYNTAX = [("a panel's query does not parse", "dashboard", panel_query(lambda text: text + ")"))]

# Found by alerts.py.
ALERT_FORM = [
    ("an alert has no severity", "rules", replaced("          severity: critical\n", "          page: \"yes\"\n")),
    ("an alert has no summary", "rules", replaced("          summary: Some shard is led by no scheduler\n", "")),
    ("a runbook link leads nowhere", "rules", replaced("OPERATING.md#repullnoleader", "OPERATING.md#no-leader")),
    ("an alert has no test", "rules", replaced("alert: RepullTwoLeaders", "alert: RepullManyLeaders")),
]

# Found by `promtool test rules`: each makes an alert blind, or fire in health.
ALERT_MEANING = [
    ("the stall rule ignores free slots", "rules", replaced("and on (namespace, queue) namespace_queue:repull_worker_slots_free:sum > 0", "and on (namespace, queue) namespace_queue:repull_worker_slots_free:sum >= 0")),
    ("the stall rule ignores starts", "rules", replaced("          unless on (namespace, queue) namespace_queue:repull_worker_jobs_started:rate2m > 0\n", "")),
    ("the stall rule fires on held queues", "rules", replaced("          unless on (namespace, queue) namespace_queue:repull_queue_held:max\n", "")),
    ("free slots are counted per pool and not per queue's workers", "rules", replaced("* on (namespace, instance) group_right ()", "* on (namespace) group_right ()")),
    ("a worker that never pulled is overlooked", "rules", replaced("max by (namespace, queue) (repull_queue_worker_slots)\n            - max", "max by (namespace, queue) (repull_queue_workers)\n            - max")),
    ("no workers, and a paused queue alarms", "rules", replaced("unless on (namespace, queue) max by (namespace, queue) (repull_queue_paused) > 0\n        for: 5m\n        labels:\n          severity: critical", "\n        for: 5m\n        labels:\n          severity: critical")),
    ("the absence of all schedulers is overlooked", "rules", replaced("          or absent(repull_scheduler_leader)\n", "")),
    ("shards are overlooked where leaders are counted", "rules", replaced("(repull_scheduler_leader) > max by (namespace) (repull_scheduler_shards)", "(repull_scheduler_leader) > 1")),
    ("a shard without a leader is overlooked", "rules", replaced("(repull_scheduler_leader) < max by (namespace) (repull_scheduler_shards)", "(repull_scheduler_leader) < 1")),
    ("a standby's old watermark alarms", "rules", replaced("            repull_scheduler_watermark_timestamp_seconds\n            and on (namespace, instance) repull_scheduler_leader > 0\n", "            repull_scheduler_watermark_timestamp_seconds\n")),
    ("a shard that stands is hidden by one that moves", "rules", replaced("time() - min by (namespace) (\n            repull_scheduler_watermark", "time() - max by (namespace) (\n            repull_scheduler_watermark")),
    ("snoozed jobs hide failures", "rules", replaced('{outcome=~"succeeded|failed|retrying"}', "")),
    ("snoozed jobs are failures", "rules", replaced('outcome=~"failed|retrying"', 'outcome!="succeeded"')),
    ("the watchdog's first action is overlooked", "rules", replaced("            unless repull_worker_watchdog_actions_total offset 15m\n", "            and repull_worker_watchdog_actions_total offset 15m\n")),
    ("a clock that is behind is overlooked", "rules", replaced("abs(repull_scheduler_clock_offset_seconds)", "(repull_scheduler_clock_offset_seconds)")),
    ("a change of leader hides new dead letters", "rules", replaced("max by (namespace) (repull_dead_jobs)\n          - max by (namespace) (repull_dead_jobs offset 15m) > 0", "max by (namespace) (delta(repull_dead_jobs[15m])) > 0")),
    ("a handful of failures alarms", "rules", replaced("[15m])) > 5", "[15m])) > 0")),
]

# Found by nats_roles.py.
ROLES = [
    ("a role reads everybody's inbox", "roles", replaced('"_INBOX_worker.>"', '"_INBOX.>"')),
    ("a role has no inbox", "roles", replaced('"_INBOX_observer.>", ', "")),
    ("a worker may create consumers on the jobs", "roles", replaced('"$JS.API.CONSUMER.INFO.REPULL_JOBS.>"', '"$JS.API.CONSUMER.*.REPULL_JOBS.>"')),
    ("the observer may read jobs", "roles", replaced('"$JS.API.DIRECT.GET.KV_REPULL_SCHEDULES.>"', '"$JS.API.DIRECT.GET.>"')),
    ("the operator may delete streams", "roles", replaced('deny = ["$JS.API.STREAM.DELETE.>", ', "deny = [")),
    ("a producer may do anything to JetStream", "roles", replaced('"$JS.API.STREAM.INFO.REPULL_JOBS"', '"$JS.API.>"')),
    ("a stream's name is misspelt", "roles", replaced("$JS.API.STREAM.CREATE.REPULL_LEDGER", "$JS.API.STREAM.CREATE.REPULL_LEGDER")),
]

# Found by nats_values.py.
VALUES = [
    ("clustering is off", "values", replaced("  cluster:\n    enabled: true", "  cluster:\n    enabled: false")),
    ("two servers only", "values", replaced("replicas: 3", "replicas: 2")),
    ("a server name prefix hides the leader from KEDA", "values", replaced('serverNamePrefix: ""', 'serverNamePrefix: "eu-"')),
    ("the monitoring port is on the client Service", "values", replaced("    monitor:\n      enabled: false", "    monitor:\n      enabled: true")),
    ("servers may share a node", "values", replaced("DoNotSchedule", "ScheduleAnyway")),
    ("the server runs as root", "values", replaced("runAsNonRoot: true", "runAsNonRoot: false")),
    ("the roles are included from elsewhere", "values", replaced("../nats-repull/", "../nats-roles/")),
    ("a role's key is not set", "values", replaced("    REPULL_WORKER_NKEY: REPLACE_WITH_PUBLIC_NKEY\n", "")),
    ("a box with a shell is installed", "values", replaced("natsBox:\n  enabled: false", "natsBox:\n  enabled: true")),
]

# Found by image.py.
IMAGE = [
    ("the build context lacks a crate", "ignore", replaced("!worker\n", "")),
    ("a binary is not built", "docker", replaced("--bin repull-scheduler", "")),
    ("the toolchain is too old", "docker", replaced("rust:1.95", "rust:1.80")),
    ("the image runs as root", "docker", replaced("USER 65532:65532", "USER root")),
    ("the lock file is ignored", "docker", replaced("--locked ", "")),
    ("the image's version is another", "docker", replaced("ARG VERSION=", "ARG VERSION=9")),
    ("a port is published to the network", "compose", replaced("127.0.0.1:4222:4222", "4222:4222")),
    ("a stop kills a draining worker", "compose", replaced("stop_grace_period: 60s", "stop_grace_period: 10s")),
    ("a service starts what is not there", "compose", replaced("[/usr/local/bin/repull-worker]", "[/usr/local/bin/worker]")),
]

# Found by hadolint.
DOCKERFILE = [
    ("a shell form keeps SIGTERM to itself", "docker", replaced('ENTRYPOINT ["/usr/local/bin/repull"]', "ENTRYPOINT /usr/local/bin/repull")),
    ("an instruction is unknown", "docker", replaced("EXPOSE 8080", "EXPOSED 8080")),
    ("a relative working directory", "docker", replaced("WORKDIR /src", "WORKDIR src")),
]

# Found by nats-server -t.
SERVER = [
    ("a bracket is missing", "roles", replaced('subscribe = { allow = ["_INBOX_producer.>", "repull.results.>"] }', 'subscribe = { allow = ["_INBOX_producer.>", "repull.results.>" }')),
    ("an invalid subject", "roles", replaced('"repull.jobs.>"', '"repull..jobs.>"')),
    ("a role that is not defined", "accounts", replaced("permissions: $REPULL_WORKER", "permissions: $REPULL_WORKERS")),
    ("an unknown setting", "server", replaced("ping_max: 2", "ping_maxx: 2")),
]
