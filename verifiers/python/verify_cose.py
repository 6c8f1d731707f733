"""Verifies Polder's COSE receipts with `cwt` and `cbor2`, and a path of its own after RFC 9162, section 2.1.3.2.

Cases on standard input, one a line: `cose`, the log's name, its key and the file in base64, separated by tabs; the answer
is `ok` or `no` with the reason. With arguments, `verify_cose.py FILE NAME KEY-IN-BASE64` verifies one file.
"""

import base64
import hashlib
import sys

import cbor2
from cwt import COSE, COSEKey

RECEIPTS, VDS, VDP, CLAIMS = 394, 395, 396, 15


def fail(reason):
    raise ValueError(reason)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(leaf, index, size, path):
    """The root that an inclusion proof leads to, or an error."""
    if not 0 <= index < size:
        fail("the index is outside the tree")
    fn, sn, node = index, size - 1, leaf
    for sibling in path:
        if not isinstance(sibling, bytes) or len(sibling) != 32:
            fail("the path holds something else than hashes")
        if sn == 0:
            fail("the path is too long")
        if fn & 1 or fn == sn:
            node = sha256(b"\x01", sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = sha256(b"\x01", node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        fail("the path is too short")
    return node


def verify(name, key, data):
    # A log's key is named by four bytes, as in C2SP's signed-note.
    kid = sha256(name.encode(), b"\n\x01", key)[:4]
    key = COSEKey.new({1: 1, 2: kid, 3: -8, -1: 6, -2: key})
    cose = COSE.new()
    # Both signatures are checked by `cwt`; the receipt's payload is the root, which is not in the file.
    protected, unprotected, statement = cose.decode_with_headers(data, [key])
    (receipt,) = unprotected[RECEIPTS]
    entry = sha256(b"polder/commitment/v1\0", protected["polder/salt/v1"], statement)
    outer = cbor2.loads(receipt)
    if outer.tag != 18:
        fail("the receipt is no COSE_Sign1")
    (proof,) = outer.value[1][VDP][-1]
    size, index, path = cbor2.loads(proof)
    root = root_of(sha256(b"\x00", entry), index, size, path)
    inner, _, _ = cose.decode_with_headers(receipt, [key], detached_payload=root)
    if inner.get(VDS) != 1:
        fail("another kind of tree")
    if protected[CLAIMS][1] != name or inner[CLAIMS][1] != name:
        fail("another issuer")
    return statement


def batch():
    for line in sys.stdin:
        _, name, key, data = line.rstrip("\n").split("\t")
        try:
            verify(name, base64.b64decode(key), base64.b64decode(data))
            print("ok")
        except Exception as error:  # Whatever a library raises for bytes that are not a receipt.
            print("no", repr(error)[:200].replace("\n", " "))


def main():
    if len(sys.argv) == 1:
        return batch()
    try:
        with open(sys.argv[1], "rb") as file:
            statement = verify(sys.argv[2], base64.b64decode(sys.argv[3]), file.read())
    except Exception as error:
        print("NOT verified:", error, file=sys.stderr)
        return 5
    print("verified")
    print(statement.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
