// A producer in JavaScript that knows nothing of Repull but docs/WIRE.md.
//
//     npm install
//     node producer.js [id]
//
// Enqueues one job, confirmed and stored once however often the publish is repeated, waits for its
// outcome and prints it as a line of JSON. Reads NATS_URL and REPULL_NAMESPACE.

import { randomUUID } from "node:crypto";
import { connect, headers, JSONCodec } from "nats";

const OUTCOMES = new Set(["succeeded", "failed", "cancelled", "expired"]);
const WRONG_LAST_SEQUENCE = 10071;
const STREAM_FULL = 10077;
const WAIT_MS = 60_000;

const json = JSONCodec();

/** Publishes until the stream confirms; true where the job is ours, false where one is there. */
async function enqueue({ js, jsm, namespace, address, nonce }, args) {
  const subject = `${namespace}.jobs.${address}`;
  const header = headers();
  header.set("Repull-Nonce", nonce);
  header.set("Repull-Max-Attempts", "5");
  const options = {
    headers: header,
    // The stream stores one message of this id, so repeating an unconfirmed publish is safe.
    msgID: nonce,
    // Refuses the job while one of its id is queued or running.
    expect: { lastSubjectSequence: 0 },
  };
  for (let pause = 100; ; pause *= 2) {
    try {
      await js.publish(subject, json.encode(args), options);
      return true;
    } catch (error) {
      const code = error.api_error?.err_code;
      if (code === WRONG_LAST_SEQUENCE) {
        // Somebody's job, or the first try of this very publish.
        const there = await jsm.streams.getMessage(`${namespace.toUpperCase()}_JOBS`, { last_by_subj: subject });
        return there.header.get("Repull-Nonce") === nonce;
      }
      if (code === STREAM_FULL || pause > 3_000) throw error;
      // Stored or not: the same publish again answers that.
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** Waits for the outcome of this very enqueue. */
async function outcome({ nc, jsm, namespace, address, nonce }) {
  const subject = `${namespace}.results.${address}`;
  const ends = (header) =>
    OUTCOMES.has(header?.get("Repull-Event")) && header.get("Repull-Nonce") === nonce;
  const events = nc.subscribe(subject, { timeout: WAIT_MS });
  await nc.flush();
  try {
    // Subscribed first, so an outcome that comes between the two is not missed.
    const last = await jsm.streams.getMessage(`${namespace.toUpperCase()}_RESULTS`, { last_by_subj: subject });
    if (ends(last.header)) return last;
  } catch (error) {
    if (error.api_error?.err_code !== 10037) throw error; // no message found
  }
  for await (const event of events) {
    if (ends(event.headers)) return { header: event.headers, data: event.data };
  }
  throw new Error("the connection ended before the job did");
}

const id = process.argv[2] ?? randomUUID();
const namespace = process.env.REPULL_NAMESPACE ?? "repull";
const nc = await connect({ servers: (process.env.NATS_URL ?? "nats://127.0.0.1:4222").split(",") });
const job = {
  nc,
  js: nc.jetstream(),
  jsm: await nc.jetstreamManager(),
  namespace,
  address: `default.echo.${id}`,
  nonce: randomUUID(),
};
if (!(await enqueue(job, { from: "node" }))) {
  console.error(`a job ${id} is queued or running already`);
  process.exit(1);
}
const { header, data } = await outcome(job);
const kind = header.get("Repull-Event");
console.log(
  JSON.stringify({
    outcome: kind,
    attempt: Number(header.get("Repull-Attempt")),
    value: kind === "succeeded" ? json.decode(data) : new TextDecoder().decode(data),
  }),
);
await nc.close();
