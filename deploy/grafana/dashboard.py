#!/usr/bin/env python3
"""Writes repull.json, the Grafana dashboard, from the table of rows and panels below.

The JSON is what Grafana loads; this table is what people edit. tools/render-install writes the file,
tools/check-deploy refuses one that is out of date, and checks every query with promtool and every
metric name against the names that the binaries export.

    deploy/grafana/dashboard.py > deploy/grafana/repull.json
"""

import json
import sys

WIDTH = 24
HEIGHT = 8
Q = 'namespace=~"$namespace",queue=~"$queue"'
N = 'namespace=~"$namespace"'


def quantiles(metric, matchers):
    """The three percentiles of a histogram, as one panel's queries."""
    return [
        (
            f"histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))",
            f"p{int(quantile * 100)}",
        )
        for quantile in (0.5, 0.95, 0.99)
    ]


def by_queue(metric):
    """A gauge of the leading scheduler: `max` keeps a change of leader from counting twice."""
    return [(f"max by (queue) ({metric}{{{Q}}})", "{{queue}}")]


def rate(metric, labels, matchers=Q):
    """Events per second by the given labels."""
    legend = " ".join("{{%s}}" % label for label in labels) or metric
    return [(f"sum by ({', '.join(labels)}) (rate({metric}{{{matchers}}}[$__rate_interval]))", legend)]


# (row, [(title, what it tells, unit, queries)]), from the question asked first to the one asked last.
ROWS = [
    ("Is work late?", [
        ("Oldest waiting job", "How long the next job of each queue has waited. Better than depth: a long queue that moves is fine.",
         "s", by_queue("repull_queue_oldest_ready_age_seconds")),
        ("Wait before start", "From due to started, over the jobs that started.", "s",
         quantiles("repull_worker_job_wait_seconds", Q)),
        ("Lateness of fires", "From the time a schedule names to the confirmed publish of its job.", "s",
         quantiles("repull_scheduler_fire_lateness_seconds", N)),
        ("Waiting jobs", "Ready to run, by queue. `Unprocessed` in the nats CLI.", "short", by_queue("repull_queue_ready")),
    ]),
    ("Flow", [
        ("Started per second", "By queue.", "ops", rate("repull_worker_jobs_started_total", ["queue"])),
        ("Finished per second", "By queue.", "ops", rate("repull_worker_jobs_finished_total", ["queue"])),
        ("Fires per second", "By result.", "ops", rate("repull_scheduler_fires_total", ["result"], N)),
        ("Later jobs", "Delayed jobs and retries that wait for their time.", "short",
         [(f"max(repull_scheduler_later_jobs{{{N}}})", "later")]),
    ]),
    ("Outcomes", [
        ("Attempts by outcome", "Per second.", "ops", rate("repull_worker_jobs_finished_total", ["outcome"])),
        ("Attempts by task", "The ten busiest tasks, per second.", "ops",
         [(f"topk(10, sum by (task) (rate(repull_worker_jobs_finished_total{{{Q}}}[$__rate_interval])))", "{{task}}")]),
        ("Run time", "Of one attempt.", "s", quantiles("repull_worker_job_run_seconds", Q)),
        ("Dead jobs", "Given up and kept for a look. Growth raises an alert.", "short",
         [(f"max(repull_dead_jobs{{{N}}})", "dead")]),
    ]),
    ("Capacity", [
        ("Slots in use", "Over all workers: running, promised to open pulls, and all there are.", "short", [
            (f"sum(repull_worker_slots_running{{{N}}})", "running"),
            (f"sum(repull_worker_slots_promised{{{N}}})", "promised"),
            (f"sum(repull_worker_slots{{{N}}})", "slots"),
        ]),
        ("Slot utilisation", "Running jobs over slots, at all times and while jobs were known to wait. The second is close to 1 in health.", "percentunit", [
            (f"sum(repull_worker_slots_running{{{N}}}) / sum(repull_worker_slots{{{N}}})", "at all times"),
            (f"sum(rate(repull_worker_backlog_busy_slot_seconds_total{{{N}}}[$__rate_interval]))"
             f" / sum(rate(repull_worker_backlog_seconds_total{{{N}}}[$__rate_interval])"
             f" * on (namespace, instance) repull_worker_slots{{{N}}})", "while jobs wait"),
        ]),
        ("Backlog per slot", "Waiting and running jobs over the slots that serve the queue: what autoscalers act on.", "short",
         [(f"(max by (queue) (repull_queue_ready{{{Q}}}) + max by (queue) (repull_queue_running{{{Q}}}))"
           f" / (max by (queue) (repull_queue_worker_slots{{{Q}}}) > 0)", "{{queue}}")]),
        ("Live workers", "By queue.", "short", by_queue("repull_queue_workers")),
        ("Refill of a freed slot", "With a backlog, from free to the next start. About one round trip in health.", "s",
         quantiles("repull_worker_slot_refill_seconds", N)),
        ("Settling", "Jobs whose ack is sent and not yet confirmed.", "short",
         [(f"sum(repull_worker_settling{{{N}}})", "settling")]),
        ("Draining and stuck", "Workers that are stopping; handlers that ignore their cancellation.", "short", [
            (f"sum(repull_worker_draining{{{N}}})", "draining workers"),
            (f"sum(repull_worker_stuck_handlers{{{N}}})", "stuck handlers"),
        ]),
        ("Paused queues", "1 while no worker may start jobs of the queue.", "short", by_queue("repull_queue_paused")),
    ]),
    ("Scheduler", [
        ("Leaders", "Exactly one, but for the seconds of a takeover.", "short", [
            (f"sum(repull_scheduler_leader{{{N}}})", "leaders"),
            (f"sum(increase(repull_scheduler_leader_changes_total{{{N}}}[$__rate_interval]))", "changes"),
        ]),
        ("Schedules", "Active ones.", "short", [(f"max(repull_scheduler_schedules{{{N}}})", "schedules")]),
        ("Age of tick and watermark", "Seconds since the loop last turned, and since all fires up to a time were confirmed.", "s", [
            (f"time() - max(repull_scheduler_last_tick_timestamp_seconds{{{N}}})", "tick"),
            (f"time() - max(repull_scheduler_watermark_timestamp_seconds{{{N}}})", "watermark"),
        ]),
        ("Clock offset", "Of each scheduler against the NATS server.", "s",
         [(f"max by (instance) (repull_scheduler_clock_offset_seconds{{{N}}})", "{{instance}}")]),
        ("Publish errors", "Per second; each is tried again with the same id.", "ops",
         rate("repull_scheduler_publish_errors_total", [], N)),
    ]),
    ("JetStream", [
        ("Running jobs over the consumer's limit", "At 1 the server delivers nothing more, whatever is free.", "percentunit",
         [(f"max by (queue) (repull_queue_running{{{Q}}}) / max by (queue) (repull_queue_ack_pending_limit{{{Q}}} > 0)", "{{queue}}")]),
        ("Waiting pulls", "Open pull requests at the consumer. A backlog with none of them is the sign of a stall.", "short",
         by_queue("repull_queue_waiting_pulls")),
        ("Orphans", "Jobs in the stream that no consumer accounts for. Always 0 in health.", "short", by_queue("repull_queue_orphans")),
        ("Pulls per second", "By queue.", "ops", rate("repull_worker_pulls_total", ["queue"])),
        ("Pull statuses", "What ended pulls, other than jobs, per second.", "ops",
         rate("repull_worker_pull_statuses_total", ["status"], N)),
        ("Jobs delivered again", "Redeliveries, jobs handed back, leases lost; per second.", "ops", [
            (f"sum(rate(repull_worker_redeliveries_total{{{N}}}[$__rate_interval]))", "redelivered"),
            (f"sum(rate(repull_worker_handed_back_total{{{N}}}[$__rate_interval]))", "handed back"),
            (f"sum(rate(repull_worker_leases_lost_total{{{N}}}[$__rate_interval]))", "leases lost"),
        ]),
        ("Watchdog", "Actions per second. Zero in health, whatever the load.", "ops",
         rate("repull_worker_watchdog_actions_total", ["action"], N)),
        ("Connections", "Workers connected to NATS, and reconnects per second.", "short", [
            (f"sum(repull_worker_connected{{{N}}})", "connected"),
            (f"sum(rate(repull_worker_reconnects_total{{{N}}}[$__rate_interval]))", "reconnects/s"),
        ]),
    ]),
]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, title, description, unit, queries, x, y, width):
    """One time series panel."""
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": None if title == "Clock offset" else 0,
                "custom": {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "range": True}
            for i, (expr, legend) in enumerate(queries)
        ],
    }


def panels():
    """All rows in order, four panels to a line."""
    built, y = [], 0
    for row, members in ROWS:
        built.append({"id": len(built) + 1, "type": "row", "title": row, "collapsed": False,
                      "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}, "panels": []})
        y += 1
        for start in range(0, len(members), 4):
            line = members[start:start + 4]
            width = WIDTH // len(line)
            for column, (title, description, unit, queries) in enumerate(line):
                built.append(panel(len(built) + 1, title, description, unit, queries, column * width, y, width))
            y += HEIGHT
    return built


def variable(name, label, query):
    """A variable whose values are those of a label."""
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE,
        "query": {"query": query, "refId": name}, "definition": query,
        "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def dashboard():
    """The whole document. The fixed uid keeps links to it valid over updates."""
    return {
        "uid": "repull",
        "title": "Repull",
        "description": "Jobs, workers and schedulers of Repull. Rows go from \"is work late?\" to its causes.",
        "tags": ["repull", "jobs", "nats"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
            variable("namespace", "Namespace", "label_values(repull_scheduler_leader, namespace)"),
            variable("queue", "Queue", 'label_values(repull_queue_ready{namespace=~"$namespace"}, queue)'),
        ]},
        "annotations": {"list": [{
            "name": "Change of leader", "enable": True, "iconColor": "orange", "datasource": DATASOURCE,
            "expr": f"sum(changes(repull_scheduler_leader{{{N}}}[1m])) > 0", "step": "60s", "titleFormat": "change of leader",
        }]},
        "panels": panels(),
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=2)
    sys.stdout.write("\n")
