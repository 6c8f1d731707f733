// Verifies Polder's COSE receipts with packages of others: @auth0/cose for the signatures, @transmute/rfc9162 for the
// path, cbor2 for what stands in unprotected headers. Cases on standard input, one a line: `cose`, the log's name, its key
// and the file in base64, separated by tabs; the answer is `ok` or `no` with the reason.

import { createHash, createPublicKey } from "node:crypto";
import { createInterface } from "node:readline";
import { Sign1 } from "@auth0/cose";
import rfc9162 from "@transmute/rfc9162";
import { decode } from "cbor2";

const { RFC9162 } = rfc9162;

function check(holds, reason) {
  if (!holds) throw new Error(reason);
}

function publicKey(raw) {
  const prefix = Buffer.from("302a300506032b6570032100", "hex");
  return createPublicKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "spki" });
}

async function verify(name, key, bytes) {
  const outer = Sign1.decode(bytes);
  await outer.verify(key);
  const salt = outer.protectedHeaders.get("polder/salt/v1");
  const entry = createHash("sha256").update("polder/commitment/v1\0").update(salt).update(outer.payload).digest();
  const receipts = outer.unprotectedHeaders.get(394);
  check(receipts.length === 1, "other than one receipt");
  const inner = Sign1.decode(receipts[0]);
  check(inner.protectedHeaders.get(395) === 1, "another kind of tree");
  const issuer = (signed) => new Map(signed.protectedHeaders.get(15)).get(1);
  check(issuer(outer) === name && issuer(inner) === name, "another issuer");
  const [size, index, path] = decode(inner.unprotectedHeaders.get(396).get(-1)[0]);
  // The checkpoint names the root; the receipt's signature over it is checked below.
  const root = Buffer.from(outer.unprotectedHeaders.get("polder/checkpoint/v1").split("\n")[2], "base64");
  // The package takes an index that is the size itself; RFC 9162 does not.
  check(index < size, "the index is outside the tree");
  const leaf = await RFC9162.leaf(entry);
  const proof = { log_id: "", tree_size: size, leaf_index: index, inclusion_path: path };
  check(await RFC9162.verifyInclusionProof(root, leaf, proof), "the path leads elsewhere");
  await inner.verify(key, { detachedPayload: root });
}

for await (const line of createInterface({ input: process.stdin })) {
  const [, name, key, file] = line.split("\t");
  try {
    await verify(name, publicKey(Buffer.from(key, "base64")), Buffer.from(file, "base64"));
    console.log("ok");
  } catch (error) {
    console.log("no", String(error).replaceAll("\n", " ").slice(0, 200));
  }
}
