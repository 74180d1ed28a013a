// A task in JavaScript, called by the stock worker's `http`: arguments as the request's body, the value as
// the answer's. It is busy the first time it hears of a job, so that the job is tried again.

const http = require("node:http");

const heard = new Set();

const server = http.createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (text) => (body += text));
  request.on("end", () => {
    // The same for all attempts of a job.
    const key = request.headers["idempotency-key"];
    if (!heard.has(key)) {
      heard.add(key);
      response.writeHead(503, { "retry-after": "0" }).end("busy");
      return;
    }
    let order;
    try {
      order = JSON.parse(body);
    } catch (error) {
      // Any 4xx but 408, 425 and 429: no further attempt.
      response.writeHead(422).end(String(error));
      return;
    }
    const value = { accepted: order.item, attempt: Number(request.headers["repull-attempt"]) };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
  });
});

server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
});
