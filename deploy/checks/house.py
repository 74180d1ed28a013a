"""What makes Repull work on Kubernetes: drains that fit their grace period, autoscalers that divide by
the worker's slots, consumers that exist before a pool scales up from zero.

Each rule is a way in which an installation looks right, applies cleanly and does the wrong thing.
"""

import re

from bundle import containers, namespace_of, pod_spec, seconds, title

# After a drain's end, cancelled handlers have REPULL_CANCEL_GRACE to end (5 s unless set); then jobs are
# handed back and the last acks confirmed, before the kill.
CANCEL_GRACE = "5s"
MARGIN_SECONDS = 3
# Jobs of one lane that a consumer lets run at once (MAX_ACK_PENDING_DEFAULT in the topology).
ACK_PENDING_MAX = 200_000
BINARIES = {"scheduler": "/usr/local/bin/repull-scheduler", "worker": "/usr/local/bin/repull-worker"}
# Keys of KEDA's nats-jetstream trigger; its metadata is a free map, so a typo is no schema error.
TRIGGER_KEYS = {
    "natsServerMonitoringEndpoint", "account", "accountID", "stream", "consumer", "lagThreshold",
    "activationLagThreshold", "useHttps",
}
LANE = re.compile(r"~(high|low)$")


def check(bundle):
    """All findings on Repull's own rules."""
    for workload in bundle.component("scheduler") + bundle.component("worker"):
        yield from (f"{title(workload)}: {finding}" for finding in process(bundle, workload))
    for workload in bundle.component("worker"):
        yield from (f"{title(workload)}: {finding}" for finding in worker(bundle, workload))
    yield from spread(bundle)
    yield from autoscalers(bundle)


def process(bundle, workload):
    """What holds for both binaries."""
    component = workload["metadata"]["labels"]["app.kubernetes.io/component"]
    container = containers(workload)[0]
    settings = bundle.settings(workload)
    if container.get("command") != [BINARIES[component]]:
        yield f"command is {container.get('command')}, expected [{BINARIES[component]}]: a shell would keep SIGTERM to itself"
    if container.get("lifecycle"):
        yield "has a lifecycle hook, whose time counts against the grace period"
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        asked = ((container.get(probe) or {}).get("httpGet") or {}).get("path")
        if asked != path:
            yield f"{probe} asks {asked}, expected {path}: liveness must not depend on NATS, readiness must"
    ports = {port.get("name"): port.get("containerPort") for port in container.get("ports") or []}
    listen = (settings.get("REPULL_HTTP") or "").rpartition(":")[2]
    if str(ports.get("http")) != listen:
        yield f"REPULL_HTTP listens on `{listen}`, and the port `http` is {ports.get('http')}"
    if settings.get("REPULL_INBOX_PREFIX") != f"_INBOX_{component}":
        yield f"REPULL_INBOX_PREFIX is {settings.get('REPULL_INBOX_PREFIX')}, and the role may only read _INBOX_{component}"
    if not settings.get("NATS_URL"):
        yield "NATS_URL is not set"
    elif settings.get("NATS_CA") and not settings["NATS_URL"].startswith("tls://"):
        yield "NATS_CA is set, and NATS_URL does not insist on TLS"
    if (workload["spec"].get("strategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
        yield "is not updated by rolling"


def worker(bundle, workload):
    """What holds for worker pools."""
    settings = bundle.settings(workload)
    drain = seconds(settings.get("REPULL_DRAIN") or "")
    grace = pod_spec(workload).get("terminationGracePeriodSeconds", 30)
    if drain is None:
        yield f"REPULL_DRAIN is {settings.get('REPULL_DRAIN')}, expected a duration such as 50s"
    else:
        needed = drain + (seconds(settings.get("REPULL_CANCEL_GRACE") or CANCEL_GRACE) or 0) + MARGIN_SECONDS
        if needed > grace:
            yield f"a drain, its cancellations and handing back take {needed:.0f} s, and the grace period is {grace} s"
    slots = settings.get("REPULL_SLOTS") or ""
    if not slots.isdigit() or int(slots) < 1:
        yield f"REPULL_SLOTS is `{slots}`, expected at least 1"
    served = queues(settings)
    if not served:
        yield "REPULL_QUEUES names no queue"
    for scheduler in bundle.component("scheduler"):
        for queue in sorted(served - queues(bundle.settings(scheduler))):
            yield f"serves queue `{queue}`, whose consumer no scheduler creates (REPULL_QUEUES of {title(scheduler)})"


def queues(settings):
    """The queues that a process is told of; a worker's may have weights (`mail=3`)."""
    listed = (settings.get("REPULL_QUEUES") or "").split(",")
    return {queue.partition("=")[0].strip() for queue in listed if queue.strip()}


def spread(bundle):
    """Replicas must not lie on one node."""
    for workload in bundle.workloads():
        if workload["spec"].get("replicas", 2) < 2:
            continue
        spec = pod_spec(workload)
        apart = ((spec.get("affinity") or {}).get("podAntiAffinity")) or spec.get("topologySpreadConstraints")
        if not apart:
            yield f"{title(workload)}: nothing keeps its replicas on different nodes"


def autoscalers(bundle):
    """Autoscalers find their pool, own its size alone, and divide by its slots."""
    taken = {}
    for scaler in bundle.of("ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"].get("name")
        pool = bundle.find("Deployment", namespace_of(scaler), target)
        if not pool:
            yield f"{title(scaler)}: scales Deployment `{target}`, which is not among the objects"
            continue
        if target in taken:
            yield f"{title(scaler)}: {taken[target]} scales Deployment `{target}` as well"
        taken[target] = title(scaler)
        if "replicas" in pool["spec"]:
            yield f"{title(pool)}: sets replicas, and {title(scaler)} owns that number"
        part = scaled_object if scaler["kind"] == "ScaledObject" else autoscaler
        yield from (f"{title(scaler)}: {finding}" for finding in part(bundle, scaler, pool))


def slots_of(bundle, pool):
    """The slots of one worker of a pool, as text."""
    return str(bundle.settings(pool).get("REPULL_SLOTS"))


def capacity(bundle, pool, maximum):
    """The largest pool must not have more slots than the consumer lets run."""
    slots = slots_of(bundle, pool)
    if not isinstance(maximum, int):
        yield "has no explicit maximum of replicas"
    elif slots.isdigit() and maximum * int(slots) > ACK_PENDING_MAX:
        yield f"{maximum} workers of {slots} slots are more than a consumer lets run at once ({ACK_PENDING_MAX})"


def autoscaler(bundle, scaler, pool):
    """A plain HorizontalPodAutoscaler."""
    spec, slots = scaler["spec"], slots_of(bundle, pool)
    yield from capacity(bundle, pool, spec.get("maxReplicas"))
    served = queues(bundle.settings(pool))
    for metric in spec.get("metrics") or []:
        external = metric.get("external") or {}
        target = external.get("target") or {}
        if target.get("type") != "AverageValue" or str(target.get("averageValue")) != slots:
            yield f"divides the backlog by {target.get('averageValue')}, and a worker has {slots} slots"
        queue = ((external.get("metric") or {}).get("selector") or {}).get("matchLabels", {}).get("queue")
        if queue not in served:
            yield f"reads queue `{queue}`, which the pool does not serve"


def scaled_object(bundle, scaler, pool):
    """A KEDA ScaledObject on the consumer's backlog."""
    spec, slots = scaler["spec"], slots_of(bundle, pool)
    yield from capacity(bundle, pool, spec.get("maxReplicaCount"))
    if (spec.get("fallback") or {}).get("replicas", 0) < 1:
        yield "has no fallback above zero: a backlog that cannot be read would stop the pool"
    triggers = spec.get("triggers") or []
    modifiers = (spec.get("advanced") or {}).get("scalingModifiers") or {}
    if len(triggers) > 1 and not modifiers.get("formula"):
        yield "has several triggers and no formula: the largest would count, not the sum"
    if modifiers.get("formula"):
        names = set(re.findall(r"[A-Za-z_]\w*", modifiers["formula"]))
        if names != {trigger.get("name") for trigger in triggers}:
            yield f"the formula `{modifiers['formula']}` does not use each trigger by its name"
        if str(modifiers.get("target")) != slots:
            yield f"the formula's target is {modifiers.get('target')}, and a worker has {slots} slots"
    for trigger in triggers:
        yield from jetstream_trigger(bundle, pool, trigger, slots)


def jetstream_trigger(bundle, pool, trigger, slots):
    """One trigger of type nats-jetstream."""
    if trigger.get("type") != "nats-jetstream":
        yield f"trigger type is {trigger.get('type')}, expected nats-jetstream"
        return
    metadata, settings = trigger.get("metadata") or {}, bundle.settings(pool)
    for key in sorted(set(metadata) - TRIGGER_KEYS):
        yield f"trigger key `{key}` is unknown to KEDA, which ignores it"
    if not metadata.get("account") and not metadata.get("accountID"):
        yield "names neither account nor accountID"
    stream = f"{settings.get('REPULL_NAMESPACE', 'repull').upper()}_JOBS"
    if metadata.get("stream") != stream:
        yield f"reads stream `{metadata.get('stream')}`, expected `{stream}`"
    if str(metadata.get("lagThreshold")) != slots:
        yield f"lagThreshold is {metadata.get('lagThreshold')}, and a worker has {slots} slots"
    consumer = LANE.sub("", metadata.get("consumer") or "")
    if consumer not in queues(settings):
        yield f"reads consumer `{metadata.get('consumer')}`, a queue that the pool does not serve"
    endpoint = metadata.get("natsServerMonitoringEndpoint") or ""
    if "://" in endpoint or not endpoint.endswith(":8222"):
        yield f"endpoint `{endpoint}` is not host:8222"
    elif "headless" not in endpoint.split(".")[0]:
        yield f"endpoint `{endpoint}` is not the headless Service: the client Service has no monitoring port"
