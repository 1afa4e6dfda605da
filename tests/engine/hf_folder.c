#include "tests/engine/hf_folder.h"

#include "kernels/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DATA_BYTES_MAX = 1 << 22 };

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "hf_folder: %s\n", what);
		abort();
	}
}

static const char config_text[] =
	"{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",\n"
	" \"hidden_act\": \"silu\", \"hidden_size\": 128, \"intermediate_size\": 256,\n"
	" \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"num_hidden_layers\": 2,\n"
	" \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0,\n"
	" \"rope_scaling\": null, \"attention_bias\": false, \"vocab_size\": 300,\n"
	" \"tie_word_embeddings\": false, \"bos_token_id\": 290, \"eos_token_id\": 291,\n"
	" \"pad_token_id\": null, \"_name_or_path\": \"somebody/tiny-ternary\",\n"
	" \"quantization_config\": {\"quant_method\": \"bitnet\",\n"
	"  \"modules_to_not_convert\": [\"lm_head\"]}}\n";

/* --- tokenizer.json -------------------------------------------------------------------------- */

static void put_char(FILE *f, unsigned cp)
{
	if (cp == '"' || cp == '\\') {
		fprintf(f, "\\%c", (int)cp);
	} else if (cp < 0x80) {
		fputc((int)cp, f);
	} else {
		fprintf(f, "\\u%04x", cp);
	}
}

/* 256 byte symbols (GPT-2's alphabet), 34 pairs of letters, 10 special tokens from 290 on. */
static char *tokenizer_text(void)
{
	static const char *const specials[] = { "<|begin_of_text|>",
						"<|end_of_text|>",
						"<|eot_id|>",
						"<|start_header_id|>",
						"<|end_header_id|>",
						"<|a|>",
						"<|b|>",
						"<|c|>",
						"<|d|>",
						"<|e|>" };
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	unsigned extra = 0;

	must(f != NULL, "open_memstream");
	fputs("{\"version\": \"1.0\", \"added_tokens\": [", f);
	for (int i = 0; i < 10; i++) {
		fprintf(f, "%s{\"id\": %d, \"content\": \"%s\", \"special\": true}", i ? ", " : "",
			290 + i, specials[i]);
	}
	fputs("], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\","
	      " \"use_regex\": true}, \"post_processor\": null, \"decoder\": {\"type\": "
	      "\"ByteLevel\"},"
	      " \"model\": {\"type\": \"BPE\", \"byte_fallback\": false, \"vocab\": {",
	      f);
	for (unsigned b = 0; b < 256; b++) {
		const int kept = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		fputc('"', f);
		put_char(f, kept ? b : 256 + extra);
		extra += !kept;
		fprintf(f, "\": %u, ", b);
	}
	for (int i = 0; i < 34; i++) {
		fprintf(f, "\"%c%c\": %d%s", 'a' + i / 26, 'a' + i % 26, 256 + i,
			i < 33 ? ", " : "");
	}
	fputs("}, \"merges\": [", f);
	for (int i = 0; i < 34; i++) {
		fprintf(f, "\"%c %c\"%s", 'a' + i / 26, 'a' + i % 26, i < 33 ? ", " : "");
	}
	fputs("]}}\n", f);
	fclose(f);
	return text;
}

/* --- tensors --------------------------------------------------------------------------------- */

static size_t width_of(const char *dtype)
{
	return strcmp(dtype, "U8") == 0 ? 1 : strcmp(dtype, "F32") == 0 ? 4 : 2;
}

struct hf_tensor *hf_add(struct hf_folder *hf, const char *name, const char *dtype, uint32_t n_dims,
			 const uint64_t *dims)
{
	struct hf_tensor *t = &hf->tensors[hf->n++];

	must(hf->n <= HF_TENSORS_MAX, "too many tensors");
	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", name);
	snprintf(t->dtype, sizeof(t->dtype), "%s", dtype);
	t->n_dims = n_dims;
	t->bytes = width_of(dtype);
	for (uint32_t i = 0; i < n_dims; i++) {
		t->dims[i] = dims[i];
		t->bytes *= dims[i];
	}
	t->data = calloc(1, t->bytes + 1);
	must(t->data != NULL, "memory");
	return t;
}

void hf_set(struct hf_tensor *t, size_t i, float value)
{
	const uint16_t half = bn_float_to_bf16(value);

	if (strcmp(t->dtype, "F32") == 0) {
		memcpy(t->data + 4 * i, &value, 4);
	} else {
		memcpy(t->data + 2 * i, &half, 2);
	}
}

static uint64_t hash(const char *name, uint64_t i)
{
	uint64_t h = UINT64_C(1469598103934665603) ^ i * UINT64_C(0x9e3779b97f4a7c15);

	for (; *name != '\0'; name++) {
		h = (h ^ (unsigned char)*name) * UINT64_C(1099511628211);
	}
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return h ^ h >> 29;
}

int hf_trit(const char *name, uint64_t row, uint64_t col)
{
	static const int trits[] = { -1, 0, 0, 1 };

	return trits[hash(name, row * 100003 + col) % 4];
}

static void add_norm(struct hf_folder *hf, const char *name, uint64_t n)
{
	struct hf_tensor *t = hf_add(hf, name, "BF16", 1, &n);

	for (uint64_t i = 0; i < n; i++) {
		hf_set(t, i, 1.0f + (float)(hash(name, i) % 100) / 400.0f);
	}
}

static void add_table(struct hf_folder *hf, const char *name)
{
	const uint64_t dims[] = { HF_VOCAB, HF_DIM };
	struct hf_tensor *t = hf_add(hf, name, "BF16", 2, dims);

	for (uint64_t i = 0; i < dims[0] * dims[1]; i++) {
		hf_set(t, i, (float)(hash(name, i) % 2001) / 2000.0f - 0.5f);
	}
}

static void add_projection(struct hf_folder *hf, const char *prefix, uint64_t out, uint64_t in)
{
	const uint64_t dims[] = { out / 4, in }, one = 1;
	char name[96];
	struct hf_tensor *t;

	snprintf(name, sizeof(name), "%.64s.weight", prefix);
	t = hf_add(hf, name, "U8", 2, dims);
	for (uint64_t r = 0; r < out; r++) {
		for (uint64_t c = 0; c < in; c++) {
			const unsigned code = (unsigned)(hf_trit(name, r, c) + 1);

			t->data[r % (out / 4) * in + c] |=
				(unsigned char)(code << 2 * (r / (out / 4)));
		}
	}
	snprintf(name, sizeof(name), "%.64s.weight_scale", prefix);
	hf_set(hf_add(hf, name, "BF16", 1, &one), 0, 16.0f);
}

static void add_layer(struct hf_folder *hf, int l)
{
	const uint64_t head = HF_DIM / HF_HEADS, kv = HF_KV * head;
	const struct {
		const char *part;
		uint64_t out, in;
	} parts[] = {
		{ "self_attn.q_proj", HF_DIM, HF_DIM }, { "self_attn.k_proj", kv, HF_DIM },
		{ "self_attn.v_proj", kv, HF_DIM },     { "self_attn.o_proj", HF_DIM, HF_DIM },
		{ "mlp.gate_proj", HF_FFN, HF_DIM },    { "mlp.up_proj", HF_FFN, HF_DIM },
		{ "mlp.down_proj", HF_DIM, HF_FFN },
	};
	char name[96];

	snprintf(name, sizeof(name), "model.layers.%d.input_layernorm.weight", l);
	add_norm(hf, name, HF_DIM);
	snprintf(name, sizeof(name), "model.layers.%d.post_attention_layernorm.weight", l);
	add_norm(hf, name, HF_DIM);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(name, sizeof(name), "model.layers.%d.%s", l, parts[i].part);
		add_projection(hf, name, parts[i].out, parts[i].in);
	}
}

void hf_init(struct hf_folder *hf)
{
	memset(hf, 0, sizeof(*hf));
	strcpy(hf->path, "/tmp/bnd-hf-XXXXXX");
	must(mkdtemp(hf->path) != NULL, "mkdtemp");
	hf->config = strdup(config_text);
	hf->generation = strdup("{\"eos_token_id\": [291, 292]}");
	hf->tokenizer = tokenizer_text();
	hf->tokenizer_config =
		strdup("{\"bos_token\": \"<|begin_of_text|>\", \"eos_token\":"
		       " {\"content\": \"<|eot_id|>\"}, \"chat_template\": \"{{ x }}\"}");
	add_table(hf, "model.embed_tokens.weight");
	for (int l = 0; l < HF_LAYERS; l++) {
		add_layer(hf, l);
	}
	add_norm(hf, "model.norm.weight", HF_DIM);
	add_table(hf, "lm_head.weight");
}

struct hf_tensor *hf_find(struct hf_folder *hf, const char *name)
{
	for (size_t i = 0; i < hf->n; i++) {
		if (strcmp(hf->tensors[i].name, name) == 0) {
			return &hf->tensors[i];
		}
	}
	fprintf(stderr, "hf_folder: no tensor %s\n", name);
	abort();
}

void hf_remove(struct hf_folder *hf, const char *name)
{
	struct hf_tensor *t = hf_find(hf, name);

	free(t->data);
	memmove(t, t + 1, (size_t)(hf->tensors + hf->n - (t + 1)) * sizeof(*t));
	hf->n--;
}

void hf_make_float(struct hf_folder *hf, float scale, int latent)
{
	for (size_t i = 0; i < hf->n; i++) {
		struct hf_tensor *t = &hf->tensors[i], fresh;
		char scale_name[128];

		if (strcmp(t->dtype, "U8") != 0) {
			continue;
		}
		snprintf(scale_name, sizeof(scale_name), "%s_scale", t->name);
		hf_remove(hf, scale_name);
		fresh = *t;
		strcpy(fresh.dtype, "F32");
		fresh.dims[0] *= 4;
		fresh.bytes = (size_t)(fresh.dims[0] * fresh.dims[1]) * 4;
		fresh.data = calloc(1, fresh.bytes);
		must(fresh.data != NULL, "memory");
		for (uint64_t k = 0; k < fresh.dims[0] * fresh.dims[1]; k++) {
			float w = (float)hf_trit(t->name, k / fresh.dims[1], k % fresh.dims[1]);

			if (latent) {
				w += (float)(hash(t->name, k ^ 7) % 1001) / 5000.0f - 0.1f;
			}
			hf_set(&fresh, k, w * scale);
		}
		free(t->data);
		*t = fresh;
	}
}

void hf_make_embedding(struct hf_folder *hf, const char *model_type)
{
	static const char *const inputs[] = { "self_attn.q_proj", "self_attn.k_proj",
					      "self_attn.v_proj", "self_attn.o_proj",
					      "mlp.gate_proj",    "mlp.up_proj",
					      "mlp.down_proj" };
	const int gemma = strcmp(model_type, "gemma3_text") == 0;
	char name[96], words[96];

	hf_make_float(hf, 0.02f, 1);
	hf_remove(hf, "lm_head.weight");
	for (int l = 0; l < HF_LAYERS; l++) {
		for (int i = 0; i < 7; i++) {
			snprintf(name, sizeof(name), "model.layers.%d.%s.norm.weight", l,
				 inputs[i]);
			add_norm(hf, name, i == 6 ? HF_FFN : HF_DIM);
		}
		snprintf(name, sizeof(name), "model.layers.%d.self_attn.q_norm.weight", l);
		add_norm(hf, name, HF_DIM / HF_HEADS);
		snprintf(name, sizeof(name), "model.layers.%d.self_attn.k_norm.weight", l);
		add_norm(hf, name, HF_DIM / HF_HEADS);
		for (int i = 0; i < 2 && gemma; i++) {
			snprintf(name, sizeof(name),
				 "model.layers.%d.%s_feedforward_layernorm.weight", l,
				 i == 0 ? "pre" : "post");
			add_norm(hf, name, HF_DIM);
		}
	}
	for (size_t i = 0; i < hf->n; i++) {
		memmove(hf->tensors[i].name, hf->tensors[i].name + strlen("model."),
			strlen(hf->tensors[i].name) - strlen("model.") + 1);
	}
	snprintf(words, sizeof(words), "\"model_type\": \"%s\"", model_type);
	hf_replace(&hf->config, "\"model_type\": \"llama\"", words);
	hf_replace(&hf->config, "LlamaForCausalLM", gemma ? "Gemma3TextModel" : "Qwen3Model");
	hf_replace(&hf->config,
		   ",\n \"quantization_config\": {\"quant_method\": \"bitnet\",\n"
		   "  \"modules_to_not_convert\": [\"lm_head\"]}",
		   "");
	if (gemma) {
		hf_replace(&hf->config, "\"hidden_act\": \"silu\"",
			   "\"hidden_activation\": \"gelu_pytorch_tanh\"");
	}
}

/* --- files ----------------------------------------------------------------------------------- */

void hf_write_file(const struct hf_folder *hf, const char *name, const void *bytes, size_t n)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", hf->path, name);
	f = fopen(path, "wb");
	must(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, path);
}

void hf_write_tensors(const struct hf_folder *hf, const char *name, size_t from, size_t to)
{
	char *header = NULL, path[256];
	size_t n = 0, at = 0;
	FILE *f = open_memstream(&header, &n);

	must(f != NULL, "open_memstream");
	fputs("{\"__metadata__\": {\"format\": \"pt\"}", f);
	for (size_t i = from; i < to; i++) {
		const struct hf_tensor *t = &hf->tensors[i];

		fprintf(f, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [", t->name, t->dtype);
		for (uint32_t d = 0; d < t->n_dims; d++) {
			fprintf(f, "%s%llu", d ? ", " : "", (unsigned long long)t->dims[d]);
		}
		fprintf(f, "], \"data_offsets\": [%zu, %zu]}", at, at + t->bytes);
		at += t->bytes;
	}
	fputs("}", f);
	fclose(f);
	snprintf(path, sizeof(path), "%s/%s", hf->path, name);
	f = fopen(path, "wb");
	must(f != NULL, path);
	for (int i = 0; i < 8; i++) {
		fputc((int)((uint64_t)n >> (8 * i) & 255), f);
	}
	must(fwrite(header, 1, n, f) == n, path);
	for (size_t i = from; i < to; i++) {
		const struct hf_tensor *t = &hf->tensors[i];

		must(fwrite(t->data, 1, t->bytes, f) == t->bytes, path);
	}
	must(fclose(f) == 0, path);
	free(header);
}

void hf_write(struct hf_folder *hf)
{
	const struct {
		const char *name, *text;
	} files[] = {
		{ "config.json", hf->config },
		{ "generation_config.json", hf->generation },
		{ "tokenizer.json", hf->tokenizer },
		{ "tokenizer_config.json", hf->tokenizer_config },
	};

	for (size_t i = 0; i < 4; i++) {
		char path[256];

		snprintf(path, sizeof(path), "%s/%s", hf->path, files[i].name);
		unlink(path);
		if (files[i].text != NULL) {
			hf_write_file(hf, files[i].name, files[i].text, strlen(files[i].text));
		}
	}
	hf_write_tensors(hf, "model.safetensors", 0, hf->n);
}

void hf_replace(char **text, const char *from, const char *to)
{
	char *at = strstr(*text, from), *fresh = NULL;

	if (at == NULL) {
		fprintf(stderr, "hf_folder: no '%s' to replace\n", from);
		abort();
	}
	must(asprintf(&fresh, "%.*s%s%s", (int)(at - *text), *text, to, at + strlen(from)) >= 0,
	     "memory");
	free(*text);
	*text = fresh;
}

void hf_finish(struct hf_folder *hf)
{
	char command[192];

	snprintf(command, sizeof(command), "rm -r '%s'", hf->path);
	must(system(command) == 0, "cannot remove the folder");
	for (size_t i = 0; i < hf->n; i++) {
		free(hf->tensors[i].data);
	}
	free(hf->config);
	free(hf->generation);
	free(hf->tokenizer);
	free(hf->tokenizer_config);
	memset(hf, 0, sizeof(*hf));
}

void hf_expect(enum bn_status status, const struct bn_error *err, enum bn_status wanted,
	       const char *words)
{
	if (status != wanted || (status != BN_OK && strstr(err->text, words) == NULL)) {
		fprintf(stderr, "wanted %s with '%s', got %s: %s\n", bn_status_word(wanted), words,
			bn_status_word(status), status == BN_OK ? "" : err->text);
		abort();
	}
}

size_t hf_peak_mib(void)
{
#ifdef __SANITIZE_THREAD__
	return 0; /* four bytes of shadow for each of ours: the number would say nothing */
#else
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (size_t)usage.ru_maxrss / 1024;
#endif
}

unsigned char *hf_data(const char *name, size_t *n)
{
	const char *data = getenv("BN_TEST_DATA");
	unsigned char *bytes;
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", data != NULL ? data : "", name);
	f = fopen(path, "rb");
	if (f == NULL) {
		fprintf(stderr, "no %s\n", path);
		return NULL;
	}
	bytes = malloc(DATA_BYTES_MAX);
	*n = bytes == NULL ? 0 : fread(bytes, 1, DATA_BYTES_MAX, f);
	fclose(f);
	return bytes;
}
