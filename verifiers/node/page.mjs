// Runs the verifier of verify.html, as it stands in the page, over cases on standard input, one a line: `proof`, the log's
// key, the witnesses' keys, proof and statement; or `cose`, the log's name, its key and the file. The answer is `ok` or `no`.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import vm from "node:vm";

const page = readFileSync(process.argv[2], "utf8");
const script = /<script id="verifier">([\s\S]*?)<\/script>/.exec(page)[1];
const { verify } = vm.runInThisContext(`(() => { ${script}\nreturn { verify }; })()`);
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));

function vkey(name, key) {
  const typed = Buffer.concat([Buffer.from([1]), Buffer.from(key, "base64")]);
  const hash = createHash("sha256").update(`${name}\n`).update(typed).digest("hex").slice(0, 8);
  return `${name}+${hash}+${typed.toString("base64")}`;
}

async function judge([form, first, second, third, fourth]) {
  if (form === "cose") return verify(bytes(third), { keys: [vkey(first, second)] });
  return verify(bytes(third), { statement: bytes(fourth), keys: [first, ...second.split(",")] });
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    await judge(line.split("\t"));
    console.log("ok");
  } catch (error) {
    console.log("no", error.check ?? "", String(error).replaceAll("\n", " ").slice(0, 200));
  }
}
