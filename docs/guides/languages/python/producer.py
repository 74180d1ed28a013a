"""A producer in Python that knows nothing of Repull but docs/WIRE.md.

    pip install nats-py
    python producer.py [id]

Enqueues one job, confirmed and stored once however often the publish is repeated, waits for its
outcome and prints it as a line of JSON. Reads NATS_URL and REPULL_NAMESPACE.
"""

import asyncio
import json
import os
import sys
import uuid

import nats
from nats.js.errors import APIError, NotFoundError

OUTCOMES = {"succeeded", "failed", "cancelled", "expired"}
WRONG_LAST_SEQUENCE = 10071
STREAM_FULL = 10077
WAIT_SECONDS = 60


async def enqueue(js, namespace, address, body, nonce):
    """Publishes until the stream confirms; True where it is ours, False where one is there already."""
    subject = f"{namespace}.jobs.{address}"
    headers = {
        # The stream stores one message of this id, so repeating an unconfirmed publish is safe.
        "Nats-Msg-Id": nonce,
        # Refuses the job while one of its id is queued or running.
        "Nats-Expected-Last-Subject-Sequence": "0",
        "Repull-Nonce": nonce,
        "Repull-Max-Attempts": "5",
    }
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6, None):
        try:
            await js.publish(subject, body, headers=headers)
            return True
        except APIError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                # Somebody's job, or the first try of this very publish.
                there = await js.get_last_msg(f"{namespace.upper()}_JOBS", subject)
                return (there.headers or {}).get("Repull-Nonce") == nonce
            if error.err_code == STREAM_FULL or pause is None:
                raise
        except (nats.errors.TimeoutError, nats.js.errors.NoStreamResponseError):
            # Stored or not: the same publish again answers that.
            if pause is None:
                raise
        await asyncio.sleep(pause)


async def outcome(nc, js, namespace, address, nonce):
    """Waits for the outcome of this very enqueue."""
    subject = f"{namespace}.results.{address}"
    events = await nc.subscribe(subject)
    try:
        # Subscribed first, so an outcome that comes between the two is not missed.
        event = await js.get_last_msg(f"{namespace.upper()}_RESULTS", subject)
    except NotFoundError:
        event = None
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            headers = (event.headers if event else None) or {}
            if headers.get("Repull-Event") in OUTCOMES and headers.get("Repull-Nonce") == nonce:
                return headers, event.data
            event = await events.next_msg(timeout=WAIT_SECONDS)


async def main():
    job_id = sys.argv[1] if len(sys.argv) > 1 else str(uuid.uuid4())
    namespace = os.environ.get("REPULL_NAMESPACE", "repull")
    address = f"default.echo.{job_id}"
    nonce = uuid.uuid4().hex
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    js = nc.jetstream()
    is_new = await enqueue(js, namespace, address, json.dumps({"from": "python"}).encode(), nonce)
    if not is_new:
        sys.exit(f"a job {job_id} is queued or running already")
    headers, body = await outcome(nc, js, namespace, address, nonce)
    value = json.loads(body) if headers["Repull-Event"] == "succeeded" else body.decode()
    print(json.dumps({"outcome": headers["Repull-Event"], "attempt": int(headers["Repull-Attempt"]), "value": value}))
    await nc.close()


if __name__ == "__main__":
    asyncio.run(main())
