"""llama.cpp's own server on the demo's toy model: a real other engine for tests.

Usage: llamacpp.py MODEL_FOLDER GGUF_FILE PORT [CONTEXT_TOKENS]

Writes the folder's model as GGUF (32-bit numbers, so that two engines can be compared) and serves it on loopback until
stdin ends. A context beyond the model's 512 tokens gives nonsense, for as long as a test needs. The server is llama.cpp's, unchanged; the package `xllamacpp` carries it. Prints `ready` once it answers.
Absent: other architectures than Llama, and tokenizers other than byte-level ones.
"""

import json
import pathlib
import struct
import sys

# GGUF's numbers for the kinds of values: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
ALIGNMENT = 32

NAMES = [
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("model.layers.", "blk."),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
]


def gguf_name(name):
    for old, new in NAMES:
        name = name.replace(old, new)
    return name


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def entry(key, kind, value, of=None):
    head = text(key) + struct.pack("<I", kind)
    if kind == ARRAY:
        return head + struct.pack("<IQ", of, len(value)) + b"".join(scalar(of, one) for one in value)
    return head + scalar(kind, value)


def read_tensors(path):
    """The tensors of a safetensors file of 16-bit floats: name, shape, rows of 32-bit floats."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for name, about in sorted(header.items()):
        begin, end = (8 + length + at for at in about["data_offsets"])
        size = {"F16": 2, "F32": 4}[about["dtype"]]
        code = {2: "e", 4: "f"}[size]
        yield name, about["shape"], struct.unpack(f"<{(end - begin) // size}{code}", data[begin:end])


def paired(values, shape, heads):
    """GGUF wants the rows of a rotated projection in pairs: (0, n/2), (1, n/2 + 1) and so on."""
    rows, columns = shape
    half = rows // heads // 2
    order = [head * 2 * half + side * half + row for head in range(heads) for row in range(half) for side in (0, 1)]
    return [value for row in order for value in values[row * columns : (row + 1) * columns]]


def metadata(folder, config, context):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = json.loads((folder / "tokenizer_config.json").read_text())
    special = {one["id"] for one in tokenizer["added_tokens"] if one["special"]}
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda one: one[1])
    merges = [" ".join(merge) for merge in tokenizer["model"]["merges"]]
    kinds = [3 if number in special else 1 for _, number in vocabulary]
    return [
        entry("general.architecture", STRING, "llama"),
        entry("general.name", STRING, "polder-toy"),
        entry("llama.embedding_length", U32, config["hidden_size"]),
        entry("llama.feed_forward_length", U32, config["intermediate_size"]),
        entry("llama.block_count", U32, config["num_hidden_layers"]),
        entry("llama.attention.head_count", U32, config["num_attention_heads"]),
        entry("llama.attention.head_count_kv", U32, config["num_key_value_heads"]),
        entry("llama.attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]),
        entry("llama.rope.freq_base", F32, config["rope_theta"]),
        entry("llama.rope.dimension_count", U32, config["head_dim"]),
        entry("llama.context_length", U32, context),
        entry("llama.vocab_size", U32, config["vocab_size"]),
        entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "gpt-2"),
        entry("tokenizer.ggml.tokens", ARRAY, [token for token, _ in vocabulary], STRING),
        entry("tokenizer.ggml.token_type", ARRAY, kinds, I32),
        entry("tokenizer.ggml.merges", ARRAY, merges, STRING),
        entry("tokenizer.ggml.bos_token_id", U32, config["bos_token_id"]),
        entry("tokenizer.ggml.eos_token_id", U32, config["eos_token_id"]),
        entry("tokenizer.ggml.add_bos_token", BOOL, True),
        entry("tokenizer.chat_template", STRING, words["chat_template"]),
    ]


def write_gguf(folder, path, context):
    config = json.loads((folder / "config.json").read_text())
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    infos, bodies, offset = [], [], 0
    for name, shape, values in read_tensors(folder / "model.safetensors"):
        for part, count in heads.items():
            if part in name:
                values = paired(values, shape, count)
        body = struct.pack(f"<{len(values)}f", *values)
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos.append(text(gguf_name(name)) + sizes + struct.pack("<IQ", 0, offset))
        body += bytes(-len(body) % ALIGNMENT)
        bodies.append(body)
        offset += len(body)
    about = metadata(folder, config, context)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(about)) + b"".join(about) + b"".join(infos)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(bodies))


def main():
    folder, path, port = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    context = int(sys.argv[4]) if len(sys.argv) > 4 else 512
    write_gguf(folder, path, context)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {"polder-toy"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = 4
    params.n_ctx = params.n_parallel * context
    params.cpuparams.n_threads = 2
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(f"ready {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
