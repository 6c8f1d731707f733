// How the checks of the Node clients tell what they saw: the same lines as report.py beside the Python clients.
//
// Each check is one line of JSON: {"check": name, "ok": true or false, "detail": text}. A group of checks ends at its first
// failure, and the next group begins; the exit code is 1 where any check failed. The last line is {"done": true}.
// POLDER_TEST_NODE_DIR names the folder whose node_modules holds the clients; without it the folder of this file is used.

import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.env.POLDER_TEST_NODE_DIR ?? import.meta.dirname;
const resolve = createRequire(path.join(folder, "package.json")).resolve;

// Loads a package of the test environment.
export const load = (name) => import(pathToFileURL(resolve(name)));

class Failed extends Error {}
const failures = [];

function tell(check, holds, detail) {
  if (!holds) failures.push(check);
  console.log(JSON.stringify({ check, ok: Boolean(holds), detail: (holds ? "" : String(detail)).slice(0, 2000) }));
}

// Tells whether a check holds; where it does not, its group ends.
export function ok(name, condition, seen) {
  tell(name, condition, JSON.stringify(seen));
  if (!condition) throw new Failed(name);
}

// The error of the given kind that a call raises.
export async function raises(name, kind, call) {
  let seen;
  try {
    seen = await call();
  } catch (error) {
    if (error instanceof kind) return error;
    seen = `${error.constructor.name}: ${error.message}`;
  }
  ok(name, false, `expected ${kind.name}, got ${JSON.stringify(seen)}`);
}

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

// Runs the groups of the modes that the command line names, each a list of [check, function]. An error that nobody expected
// fails the check that its group is named for.
export async function run(modes, ...given) {
  const named = process.argv.slice(2);
  if (named.length === 0 || named.some((mode) => !(mode in modes))) {
    console.error(`usage: ${path.basename(process.argv[1])} ${Object.keys(modes).join("|")}...`);
    process.exit(2);
  }
  for (const [check, group] of named.flatMap((mode) => modes[mode])) {
    try {
      await group(...given);
    } catch (error) {
      if (!(error instanceof Failed)) tell(check, false, `${error.constructor.name}: ${error.message}`);
    }
  }
  console.log(JSON.stringify({ done: true }));
  process.exitCode = failures.length > 0 ? 1 : 0;
}

// Passes requests on to the endpoint and counts them, because a retry is invisible to the caller.
export async function counting(target) {
  const address = new URL(target);
  const counter = { count: 0 };
  counter.server = http.createServer((request, response) => {
    counter.count += 1;
    const { hostname, port } = address;
    const passed = { ...request.headers, host: address.host };
    const options = { hostname, port, method: request.method, path: request.url, headers: passed };
    const upstream = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on("error", (error) => response.destroy(error));
    request.pipe(upstream);
  });
  await new Promise((done) => counter.server.listen(0, "127.0.0.1", done));
  counter.url = `http://127.0.0.1:${counter.server.address().port}${address.pathname === "/" ? "" : address.pathname}`;
  counter.close = () => {
    counter.server.closeAllConnections();
    counter.server.close();
  };
  return counter;
}
