"""The model families, as their Hugging Face repositories lay them out.

Facts only: dimensions, configuration keys, tensor names, how weights are stored. The true dimensions
are those of the published models; `tiny` keeps what makes each family awkward (head sizes of 96, 100
and 256, one KV head, rows that end inside blocks) at a size that takes milliseconds.
"""

# Stored weights: "packed-divide", "packed-multiply", "latent", "dequantized".
FAMILIES = {
    "bitnet-2b-4t": dict(
        cls="BitNetForCausalLM", model_type="bitnet", weights="packed-multiply", dtype="BF16",
        layers=30, dim=2560, ffn=6912, heads=20, kv_heads=5, vocab=128256, context=4096,
        theta=500000.0, eps=1e-5, tied=True, act="relu2", sub_norms="microsoft",
        tokenizer="llama3", eos=[128001, 128009],
        tiny=dict(dim=256, ffn=384, heads=8, kv_heads=2, vocab=640)),
    "bitnet-2b-4t-bf16": dict(
        cls="BitNetForCausalLM", model_type="bitnet", weights="latent", dtype="BF16",
        layers=30, dim=2560, ffn=6912, heads=20, kv_heads=5, vocab=128256, context=4096,
        theta=500000.0, eps=1e-5, tied=True, act="relu2", sub_norms="microsoft",
        tokenizer="llama3", eos=[128001, 128009],
        tiny=dict(dim=256, ffn=384, heads=8, kv_heads=2, vocab=640)),
    "large": dict(
        cls="BitnetForCausalLM", model_type="llama", weights="latent", dtype="F32",
        layers=24, dim=1536, ffn=4096, heads=16, kv_heads=16, vocab=32002, context=2048,
        theta=10000.0, eps=1e-5, tied=True, act="silu", sub_norms="1bitllm",
        tokenizer="spm", eos=[2],
        tiny=dict(dim=384, ffn=448, heads=4, kv_heads=4, vocab=602)),
    "3b": dict(
        cls="BitnetForCausalLM", model_type="llama", weights="latent", dtype="F32",
        layers=26, dim=3200, ffn=8640, heads=32, kv_heads=32, vocab=32002, context=2048,
        theta=10000.0, eps=1e-5, tied=True, act="silu", sub_norms="1bitllm",
        tokenizer="spm", eos=[2], shards=3,
        tiny=dict(dim=400, ffn=480, heads=4, kv_heads=4, vocab=602)),
    "llama3-8b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=32, dim=4096, ffn=14336, heads=32, kv_heads=8, vocab=128256, context=8192,
        theta=500000.0, eps=1e-5, tied=False, act="silu", sub_norms=None,
        tokenizer="llama3", eos=[128009],
        tiny=dict(dim=256, ffn=448, heads=8, kv_heads=2, vocab=640)),
    "falcon3-1b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=18, dim=2048, ffn=8192, heads=8, kv_heads=4, head_dim=256, vocab=131072,
        context=8192, theta=1000042.0, eps=1e-6, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon3", eos=[11],
        tiny=dict(dim=512, ffn=384, heads=2, kv_heads=1, vocab=640)),
    "falcon3-3b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=22, dim=3072, ffn=9216, heads=12, kv_heads=4, head_dim=256, vocab=131072,
        context=32768, theta=1000042.0, eps=1e-6, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon3", eos=[11],
        tiny=dict(dim=768, ffn=256, heads=3, kv_heads=1, vocab=640)),
    "falcon3-7b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=28, dim=3072, ffn=23040, heads=12, kv_heads=4, head_dim=256, vocab=131080,
        context=32768, theta=1000042.0, eps=1e-6, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon3", eos=[11], shards=2, named=131072,
        tiny=dict(dim=768, ffn=640, heads=3, kv_heads=1, vocab=648, named=640)),
    "falcon3-10b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=40, dim=3072, ffn=23040, heads=12, kv_heads=4, head_dim=256, vocab=131072,
        context=32768, theta=1000042.0, eps=1e-6, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon3", eos=[11], shards=2,
        tiny=dict(dim=768, ffn=640, heads=3, kv_heads=1, vocab=640)),
    "falcon-e-1b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=24, dim=2048, ffn=9216, heads=16, kv_heads=2, vocab=32768, context=32768,
        theta=1000000.0, eps=1e-5, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon-e", eos=["<|end_of_text|>"],
        tiny=dict(dim=256, ffn=384, heads=16, kv_heads=2, vocab=640)),
    "falcon-e-3b": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="packed-divide", dtype="BF16",
        layers=32, dim=2048, ffn=13312, heads=16, kv_heads=2, vocab=32768, context=32768,
        theta=1000000.0, eps=1e-5, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon-e", eos=["<|end_of_text|>"],
        tiny=dict(dim=256, ffn=640, heads=16, kv_heads=2, vocab=640)),
    "falcon-e-1b-bfloat16": dict(
        cls="LlamaForCausalLM", model_type="llama", weights="dequantized", dtype="BF16",
        layers=24, dim=2048, ffn=9216, heads=16, kv_heads=2, vocab=32768, context=32768,
        theta=1000000.0, eps=1e-5, tied=False, act="silu", sub_norms=None,
        tokenizer="falcon-e", eos=["<|end_of_text|>"],
        tiny=dict(dim=256, ffn=384, heads=16, kv_heads=2, vocab=640)),
}

# The models that make vectors of texts. `window` and `theta` differ in the third: what their card says
# (no window, one base), and what Gemma 3 itself has.
VECTORS = {
    "embedding-0.6b": dict(
        model_type="qwen3", weights="latent", dtype="BF16", layers=28, dim=1024, ffn=3072,
        heads=16, kv_heads=8, head_dim=128, vocab=151936, named=151669, context=32768,
        theta=1000000.0, eps=1e-6, tied=True, act="silu", tokenizer="qwen", pooling="lasttoken",
        tiny=dict(dim=256, ffn=384, heads=4, kv_heads=2, head_dim=96, vocab=648, named=640)),
    "embedding-270m": dict(
        model_type="gemma3_text", weights="latent", dtype="BF16", layers=18, dim=640, ffn=2048,
        heads=4, kv_heads=1, head_dim=256, vocab=262144, context=32768, theta=10000.0,
        eps=1e-6, tied=True, act="gelu_pytorch_tanh", tokenizer="gemma", pooling="lasttoken",
        tiny=dict(dim=192, ffn=320, heads=4, kv_heads=1, head_dim=64, vocab=640)),
    "embedding-270m-windows": dict(
        model_type="gemma3_text", weights="latent", dtype="BF16", layers=18, dim=640, ffn=2048,
        heads=4, kv_heads=1, head_dim=256, vocab=262144, context=32768, theta=1000000.0,
        window=512, eps=1e-6, tied=True, act="gelu_pytorch_tanh", tokenizer="gemma",
        pooling="mean", prefix="model.", shards=2,
        tiny=dict(dim=192, ffn=320, heads=4, kv_heads=1, head_dim=64, vocab=640, window=5)),
}

# Of a GGUF in I2_S with F16 embedding and F32 norms, all layers: tensors in F32, in F16, in I2_S, and
# bytes of tensor data. The published files have exactly these (the table of published sizes counts Falcon3-7B
# with 131072 tokens: 16 rows of 3072 in F16 more here; BitNet-embedding's norms are F16 there and F32 here).
# The list names the ten causal models and the two of vectors; how their checkpoints store the weights does
# not matter.
PUBLISHED = {
    "bitnet-2b-4t": (121, 1, 210, 1179449920), "large": (97, 1, 168, 269026560),
    "3b": (105, 1, 182, 1012104384), "llama3-8b": (65, 2, 224, 3847248896),
    "falcon3-1b": (37, 2, 126, 1357164480), "falcon3-3b": (45, 2, 154, 2216723264),
    "falcon3-7b": (57, 2, 196, 3273836672 + 98304), "falcon3-10b": (81, 2, 280, 3986641664),
    "falcon-e-1b": (49, 2, 168, 665203968), "falcon-e-3b": (65, 2, 224, 998784000),
    "embedding-0.6b": (28 * 11 + 1, 1, 196, 311164928 + 28 * (7 * 32 + 15728640 // 4 + 12544 * 4) + 4096),
    "embedding-270m": (18 * 13 + 1, 1, 126, 335544320 + 18 * (7 * 32 + 5570560 // 4 + 9344 * 4) + 2560),
}


def family(name, true_size=False, layers=None):
    """One family's facts, tiny unless asked; `layers` cuts the depth."""
    f = dict((FAMILIES | VECTORS)[name], name=name)
    tiny = f.pop("tiny")
    if not true_size:
        f.update(tiny, layers=2, context=256)
        if "head_dim" not in tiny:
            f.pop("head_dim", None)
    if layers:
        f["layers"] = layers
    f.setdefault("head_dim", f["dim"] // f["heads"])
    f.setdefault("named", f["vocab"])
    f.setdefault("shards", 1)
    return f
