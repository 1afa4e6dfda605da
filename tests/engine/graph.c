#include "tests/engine/graph.h"

#include "engine/gguf_write.h"
#include "kernels/cpu.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "graph: %s\n", what);
		abort();
	}
}

static size_t find_key(const struct graph *g, const char *key)
{
	size_t i = 0;

	while (i < g->n_kv && strcmp(g->kv[i].key, key) != 0) {
		i++;
	}
	return i;
}

void graph_set(struct graph *g, const char *key, struct graph_value value)
{
	const size_t i = find_key(g, key);

	must(i < GRAPH_MAX, "too many keys");
	snprintf(g->kv[i].key, GRAPH_NAME, "%s", key);
	g->kv[i].value = value;
	g->n_kv += i == g->n_kv;
}

void graph_drop(struct graph *g, const char *key)
{
	const size_t i = find_key(g, key);

	must(i < g->n_kv, key);
	memmove(&g->kv[i], &g->kv[i + 1], (g->n_kv - i - 1) * sizeof(g->kv[0]));
	g->n_kv--;
}

struct graph_tensor *graph_tensor(struct graph *g, const char *name)
{
	for (size_t i = 0; i < g->n_tensors; i++) {
		if (strcmp(g->tensors[i].name, name) == 0) {
			return &g->tensors[i];
		}
	}
	must(false, name);
	return NULL;
}

void graph_rename(struct graph *g, const char *arch)
{
	static const char from[] = "bitnet-b1.58.";
	const struct bn_architecture *rules = bn_family_architecture(arch, strlen(arch));

	for (size_t i = 0; i < g->n_kv; i++) {
		char rest[GRAPH_NAME];

		if (strncmp(g->kv[i].key, from, strlen(from)) == 0) {
			snprintf(rest, sizeof(rest), "%s", g->kv[i].key + strlen(from));
			snprintf(g->kv[i].key, GRAPH_NAME, "%.12s.%.80s", arch, rest);
		}
	}
	graph_set(g, "general.architecture",
		  (struct graph_value){ .kind = GRAPH_STR, .text = arch });
	for (unsigned l = 0; l < 2 && rules->sub_norms == BN_NEVER; l++) {
		char name[GRAPH_NAME];

		snprintf(name, sizeof(name), "blk.%u.attn_sub_norm.weight", l);
		graph_drop_tensor(g, name);
		snprintf(name, sizeof(name), "blk.%u.ffn_sub_norm.weight", l);
		graph_drop_tensor(g, name);
	}
}

void graph_drop_tensor(struct graph *g, const char *name)
{
	struct graph_tensor *t = graph_tensor(g, name);
	const size_t i = (size_t)(t - g->tensors);

	memmove(t, t + 1, (g->n_tensors - i - 1) * sizeof(*t));
	g->n_tensors--;
}

struct graph_tensor *graph_add(struct graph *g, const char *name, enum bn_ggml_type type,
			       uint64_t cols, uint64_t rows)
{
	struct graph_tensor *t = &g->tensors[g->n_tensors++];

	must(g->n_tensors <= GRAPH_MAX, "too many tensors");
	*t = (struct graph_tensor){
		.type = type,
		.n_dims = rows == 1 ? 1 : 2,
		.dims = { cols, rows, 1, 1 },
		.scale = 0.5f,
		.fill = type == BN_GGML_I2_S ? 0x55 : 0,
	};
	snprintf(t->name, GRAPH_NAME, "%s", name);
	return t;
}

static void add_layer(struct graph *g, unsigned layer)
{
	static const struct {
		const char *part;
		enum bn_ggml_type type;
		uint64_t cols, rows;
	} parts[] = {
		{ "attn_norm", BN_GGML_F32, 128, 1 },     { "attn_q", BN_GGML_I2_S, 128, 128 },
		{ "attn_k", BN_GGML_I2_S, 128, 64 },      { "attn_v", BN_GGML_I2_S, 128, 64 },
		{ "attn_sub_norm", BN_GGML_F32, 128, 1 }, { "attn_output", BN_GGML_I2_S, 128, 128 },
		{ "ffn_norm", BN_GGML_F32, 128, 1 },      { "ffn_gate", BN_GGML_I2_S, 128, 256 },
		{ "ffn_up", BN_GGML_I2_S, 128, 256 },     { "ffn_sub_norm", BN_GGML_F32, 256, 1 },
		{ "ffn_down", BN_GGML_I2_S, 256, 128 },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char name[GRAPH_NAME];

		snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, parts[i].part);
		graph_add(g, name, parts[i].type, parts[i].cols, parts[i].rows);
	}
}

void graph_init(struct graph *g)
{
	static const struct {
		const char *key;
		uint32_t value;
	} numbers[] = {
		{ "vocab_size", 512 },
		{ "context_length", 256 },
		{ "embedding_length", 128 },
		{ "block_count", 2 },
		{ "feed_forward_length", 256 },
		{ "attention.head_count", 4 },
		{ "attention.head_count_kv", 2 },
		{ "rope.dimension_count", 32 },
	};

	memset(g, 0, sizeof(*g));
	graph_set(g, "general.architecture",
		  (struct graph_value){ .kind = GRAPH_STR, .text = "bitnet-b1.58" });
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		char key[GRAPH_NAME];

		snprintf(key, sizeof(key), "bitnet-b1.58.%s", numbers[i].key);
		graph_set(g, key, (struct graph_value){ .number = numbers[i].value });
	}
	graph_set(g, "bitnet-b1.58.attention.layer_norm_rms_epsilon",
		  (struct graph_value){ .kind = GRAPH_F32, .number = 1e-5 });
	graph_set(g, "bitnet-b1.58.rope.freq_base",
		  (struct graph_value){ .kind = GRAPH_F32, .number = 500000.0 });
	graph_add(g, "token_embd.weight", BN_GGML_F16, 128, 512);
	add_layer(g, 0);
	add_layer(g, 1);
	graph_add(g, "output_norm.weight", BN_GGML_F32, 128, 1);
}

static void write_value(struct bn_gguf_writer *w, const char *key, const struct graph_value *v)
{
	switch (v->kind) {
	case GRAPH_U32:
		bn_gguf_put_u32(w, key, (uint32_t)v->number);
		break;
	case GRAPH_I32:
		bn_gguf_put_i32(w, key, (int32_t)v->number);
		break;
	case GRAPH_F32:
		bn_gguf_put_f32(w, key, (float)v->number);
		break;
	case GRAPH_BOOL:
		bn_gguf_put_bool(w, key, v->number != 0.0);
		break;
	case GRAPH_STR:
		bn_gguf_put_str(w, key, v->text);
		break;
	}
}

static void write_data(struct bn_gguf_writer *w, const struct graph_tensor *t)
{
	uint64_t bytes = 0;
	unsigned char *data;

	must(bn_ggml_nbytes(t->type, t->n_dims, t->dims, &bytes) == BN_GGML_FITS, t->name);
	data = malloc(bytes);
	memset(data, t->fill, bytes);
	if (t->type == BN_GGML_I2_S) {
		memset(data + bytes - 32, 0, 32);
		memcpy(data + bytes - 32, &t->scale, sizeof(t->scale));
	}
	bn_gguf_write(w, data, bytes);
	free(data);
}

void graph_write(const struct graph *g, const char *path)
{
	struct bn_gguf_writer *w = NULL;
	struct bn_error err;

	must(bn_gguf_writer_new(&w, path, 32, &err) == BN_OK, path);
	for (size_t i = 0; i < g->n_kv; i++) {
		write_value(w, g->kv[i].key, &g->kv[i].value);
	}
	for (size_t i = 0; i < g->n_tensors; i++) {
		const struct graph_tensor *t = &g->tensors[i];

		bn_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
	}
	for (size_t i = 0; i < g->n_tensors; i++) {
		write_data(w, &g->tensors[i]);
	}
	must(bn_gguf_commit(w, &err) == BN_OK, "cannot write");
	bn_gguf_writer_free(w);
}

enum bn_status bind_file(struct bound *b, const char *path, const char *const *only,
			 struct bn_error *err)
{
	memset(b, 0, sizeof(*b));
	must(bn_file_open(&b->file, AT_FDCWD, path, false, err) == BN_OK, path);
	must(bn_gguf_open(&b->gguf, &b->file, err) == BN_OK, "the directory");
	must(bn_hyper_read(&b->hyper, b->gguf, err) == BN_OK, "the hyper-parameters");
	return bn_binding_new(&b->binding, b->gguf, &b->file, &b->hyper, bn_cpu_features(), only,
			      err);
}

void unbind(struct bound *b)
{
	bn_binding_free(b->binding);
	bn_gguf_free(b->gguf);
	bn_file_close(&b->file);
}
