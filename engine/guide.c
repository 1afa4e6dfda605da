/*
 * Where the facts come from: dimensions and tokens, the design paper "models", sections 1, 5, 6 and
 * 9; the kernel matrix, bitnet.cpp's table of supported models, where I2_S fails for the 3B because
 * its rows of 8640 are no multiple of the 128 weights of a block, TL1 is compiled for ARM alone and
 * TL2 for x86 alone, and models that make vectors have I2_S alone; licences, the repositories' own
 * cards. Of vectors, context and licence are from bitnet.cpp's guide to BitNet-embedding.
 *
 * One cross of that table is not taken over: it has no kernel at all for those models on ARM, which
 * says what bitnet.cpp was built for. Nothing is named that would work instead, so it is no advice.
 */
#include "engine/guide.h"

#include "kernels/cpu.h"

#include <stdio.h>
#include <string.h>

#define SHAPE(l, d, f, h, kv, hd, v, tie, sub)                                         \
	{                                                                              \
		.layers = (l), .dim = (d), .ffn = (f), .heads = (h), .kv_heads = (kv), \
		.head_dim = (hd), .vocab = (v), .tied = (tie), .sub_norms = (sub),     \
	}

#define BITNET_2B                                                                        \
	.architectures = { "bitnet-b1.58", "bitnet-25", "bitnet" },                      \
	.shape = SHAPE(30, 2560, 6912, 20, 5, 128, 128256, true, true), .context = 4096, \
	.tokenizer = "llama3", .template = "bitnet-2b4t",                                \
	.stops = { "<|eot_id|>", "<|end_of_text|>" }, .bos = true, .licence = "MIT"
#define ONE_BIT_LLM                                                                              \
	.architectures = { "bitnet", "bitnet-b1.58" }, .context = 2048, .form = BN_GUIDE_LATENT, \
	.tokenizer = "llama2", .template = "none", .stops = { "</s>" }, .bos = true
#define FALCON3                                                                        \
	.architectures = { "llama" }, .form = BN_GUIDE_PACKED, .tokenizer = "falcon3", \
	.template = "falcon3", .stops = { "<|endoftext|>" }, .licence = "TII Falcon License 2.0"
#define FALCON_E                                                                 \
	.architectures = { "llama" }, .context = 32768, .form = BN_GUIDE_PACKED, \
	.tokenizer = "falcon-e", .stops = { "<|im_end|>", "<|end_of_text|>" },   \
	.licence = "Falcon-LLM License"
#define WITHOUT(k) (UINT32_C(1) << (k))
/* Norms are set here and not by SHAPE: these models alone have them. */
#define EMBEDDING                                                              \
	.shape.input_norms = true, .shape.head_norms = true, .context = 32768, \
	.form = BN_GUIDE_LATENT, .template = "none", .pooling = "last",        \
	.without = WITHOUT(BN_GUIDE_TL1) | WITHOUT(BN_GUIDE_TL2), .licence = "MIT"
#define FALCON_E_1B SHAPE(24, 2048, 9216, 16, 2, 128, 32768, false, false)
#define FALCON_E_3B SHAPE(32, 2048, 13312, 16, 2, 128, 32768, false, false)

static const char base_note[] = "a base model: it continues text and does not chat";
static const char embedding_note[] =
	"makes vectors of texts, for search and clustering (bnctl embed); it writes no text";

/* clang-format off */
static const struct bn_guide_model models[] = {
	{ .name = "bitnet-b1.58-2B-4T", .repo = "microsoft/bitnet-b1.58-2B-4T",
	  .nickname = "bitnet-2b", BITNET_2B, .form = BN_GUIDE_PACKED },
	{ .name = "bitnet-b1.58-2B-4T-bf16", .repo = "microsoft/bitnet-b1.58-2B-4T-bf16",
	  .nickname = "bitnet-2b-bf16", BITNET_2B, .form = BN_GUIDE_LATENT,
	  .note = "meant for training and four times the download; to use the model, take "
		  "microsoft/bitnet-b1.58-2B-4T" },
	{ .name = "bitnet_b1_58-large", .repo = "1bitLLM/bitnet_b1_58-large",
	  .nickname = "bitnet-large", ONE_BIT_LLM, .note = base_note,
	  .shape = SHAPE(24, 1536, 4096, 16, 16, 96, 32002, true, true) },
	{ .name = "bitnet_b1_58-3B", .repo = "1bitLLM/bitnet_b1_58-3B",
	  .nickname = "bitnet-3b", ONE_BIT_LLM, .note = base_note, .licence = "MIT",
	  .without = WITHOUT(BN_GUIDE_I2S),
	  .shape = SHAPE(26, 3200, 8640, 32, 32, 100, 32002, true, true) },
	{ .name = "Llama3-8B-1.58-100B-tokens", .repo = "HF1BitLLM/Llama3-8B-1.58-100B-tokens",
	  .nickname = "llama3-8b", .architectures = { "llama" },
	  .shape = SHAPE(32, 4096, 14336, 32, 8, 128, 128256, false, false), .context = 8192,
	  .form = BN_GUIDE_PACKED, .tokenizer = "llama3", .template = "llama3",
	  .stops = { "<|eot_id|>", "<|end_of_text|>" }, .bos = true, .poor_chat = true,
	  .note = "made ternary on web text alone: it continues text well and chats poorly" },
	{ .name = "Falcon3-1B-Instruct-1.58bit", .repo = "tiiuae/Falcon3-1B-Instruct-1.58bit",
	  .nickname = "falcon3-1b", FALCON3, .context = 8192,
	  .shape = SHAPE(18, 2048, 8192, 8, 4, 256, 131072, false, false) },
	{ .name = "Falcon3-3B-Instruct-1.58bit", .repo = "tiiuae/Falcon3-3B-Instruct-1.58bit",
	  .nickname = "falcon3-3b", FALCON3, .context = 32768,
	  .shape = SHAPE(22, 3072, 9216, 12, 4, 256, 131072, false, false) },
	{ .name = "Falcon3-7B-Instruct-1.58bit", .repo = "tiiuae/Falcon3-7B-Instruct-1.58bit",
	  .nickname = "falcon3-7b", FALCON3, .context = 32768, .other_vocab = 131072,
	  .shape = SHAPE(28, 3072, 23040, 12, 4, 256, 131080, false, false) },
	{ .name = "Falcon3-10B-Instruct-1.58bit", .repo = "tiiuae/Falcon3-10B-Instruct-1.58bit",
	  .nickname = "falcon3-10b", FALCON3, .context = 32768,
	  .shape = SHAPE(40, 3072, 23040, 12, 4, 256, 131072, false, false) },
	{ .name = "Falcon-E-1B-Instruct", .repo = "tiiuae/Falcon-E-1B-Instruct",
	  .nickname = "falcon-e-1b", FALCON_E, .shape = FALCON_E_1B, .template = "chatml" },
	{ .name = "Falcon-E-1B-Base", .repo = "tiiuae/Falcon-E-1B-Base",
	  .nickname = "falcon-e-1b-base", FALCON_E, .shape = FALCON_E_1B, .template = "none",
	  .note = base_note },
	{ .name = "Falcon-E-3B-Instruct", .repo = "tiiuae/Falcon-E-3B-Instruct",
	  .nickname = "falcon-e-3b", FALCON_E, .shape = FALCON_E_3B, .template = "chatml" },
	{ .name = "Falcon-E-3B-Base", .repo = "tiiuae/Falcon-E-3B-Base",
	  .nickname = "falcon-e-3b-base", FALCON_E, .shape = FALCON_E_3B, .template = "none",
	  .note = base_note },
	{ .name = "bitnet-embedding-0.6b", .repo = "microsoft/bitnet-embedding-0.6b",
	  .nickname = "embedding-0.6b", .architectures = { "qwen3" },
	  .shape = SHAPE(28, 1024, 3072, 16, 8, 128, 151936, true, false), EMBEDDING,
	  .tokenizer = "qwen", .note = embedding_note },
	{ .name = "bitnet-embedding-270m", .repo = "microsoft/bitnet-embedding-270m",
	  .nickname = "embedding-270m", .architectures = { "gemma3" },
	  .shape = SHAPE(18, 640, 2048, 4, 1, 256, 262144, true, false), EMBEDDING,
	  .shape.post_norms = true, .tokenizer = "gemma", .note = embedding_note },
};

static const bool on_processor[BN_GUIDE_PROCESSORS][BN_GUIDE_KERNELS] = {
	/*                    i2_s  tl1    tl2   */
	[BN_GUIDE_X86]   = { true, false, true  },
	[BN_GUIDE_ARM]   = { true, true,  false },
	[BN_GUIDE_OTHER] = { true, false, false },
};

static const char *const kernel_words[BN_GUIDE_KERNELS] = { "i2_s", "tl1", "tl2" };
static const char *const kernel_stems[BN_GUIDE_KERNELS] = { "i2s", "tl1", "tl2" };
static const char *const processor_words[BN_GUIDE_PROCESSORS] = { "x86", "arm", "other" };
/* clang-format on */

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- rows ------------------------------------------------------------------------------------ */

const struct bn_guide_model *bn_guide_at(size_t i)
{
	return i < LENGTH(models) ? &models[i] : NULL;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool equal(const char *a, const char *b)
{
	while (*a != '\0' && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return *a == '\0' && *b == '\0';
}

const struct bn_guide_model *bn_guide_find(const char *word)
{
	for (size_t i = 0; i < LENGTH(models); i++) {
		const struct bn_guide_model *m = &models[i];

		if (equal(m->name, word) || equal(m->repo, word) || equal(m->nickname, word)) {
			return m;
		}
	}
	return NULL;
}

static bool is_plain(char c)
{
	c = lower(c);
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Whether text begins with `name`, neither's case nor punctuation looked at. */
static bool starts(struct bn_str text, const char *name)
{
	size_t at = 0;

	for (; *name != '\0'; name++) {
		if (!is_plain(*name)) {
			continue;
		}
		while (at < text.n && !is_plain(text.p[at])) {
			at++;
		}
		if (at == text.n || lower(text.p[at]) != lower(*name)) {
			return false;
		}
		at++;
	}
	return true;
}

static bool contains(struct bn_str text, const char *name)
{
	for (; text.n > 0; text.p++, text.n--) {
		if (is_plain(text.p[0]) && starts(text, name)) {
			return true;
		}
	}
	return false;
}

/* The longer of two names that a text contains: "...-bf16" contains the name without it. */
static const struct bn_guide_model *longer(const struct bn_guide_model *a,
					   const struct bn_guide_model *b)
{
	return a != NULL && strlen(a->name) >= strlen(b->name) ? a : b;
}

const struct bn_guide_model *bn_guide_named(struct bn_str text)
{
	const struct bn_guide_model *found = NULL;

	for (size_t i = 0; i < LENGTH(models); i++) {
		if (contains(text, models[i].name)) {
			found = longer(found, &models[i]);
		}
	}
	return found;
}

static bool has_shape(const struct bn_guide_model *m, const struct bn_shape *d,
		      const char *architecture)
{
	const struct bn_shape *s = &m->shape;
	bool in_files = false;

	for (size_t i = 0; i < BN_GUIDE_WORDS_MAX && m->architectures[i] != NULL; i++) {
		in_files = in_files || strcmp(m->architectures[i], architecture) == 0;
	}
	return in_files && s->layers == d->layers && s->dim == d->dim && s->ffn == d->ffn &&
	       s->heads == d->heads && s->kv_heads == d->kv_heads && s->head_dim == d->head_dim &&
	       (s->vocab == d->vocab || (m->other_vocab != 0 && m->other_vocab == d->vocab));
}

const struct bn_guide_model *bn_guide_recognise(const struct bn_shape *dimensions,
						const char *architecture, struct bn_str name,
						bool *certain)
{
	const struct bn_guide_model *first = NULL, *named = NULL;

	for (size_t i = 0; i < LENGTH(models); i++) {
		const struct bn_guide_model *m = &models[i];

		if (!has_shape(m, dimensions, architecture)) {
			continue;
		}
		first = first != NULL ? first : m;
		if (contains(name, m->name)) {
			named = longer(named, m);
		}
	}
	if (certain != NULL) {
		*certain = named != NULL;
	}
	return named != NULL ? named : first;
}

/* ---- kernels --------------------------------------------------------------------------------- */

enum bn_guide_processor bn_guide_processor(uint64_t cpu)
{
	const uint64_t arm = BN_CPU_NEON | BN_CPU_DOTPROD | BN_CPU_I8MM;

	if (cpu != 0) {
		return (cpu & arm) != 0 ? BN_GUIDE_ARM : BN_GUIDE_X86;
	}
#if defined(__x86_64__)
	return BN_GUIDE_X86;
#elif defined(__aarch64__)
	return BN_GUIDE_ARM;
#else
	return BN_GUIDE_OTHER;
#endif
}

const char *bn_guide_processor_word(enum bn_guide_processor p)
{
	return processor_words[p];
}

const char *bn_guide_kernel_word(enum bn_guide_kernel k)
{
	return kernel_words[k];
}

bool bn_guide_kernel_of(const char *word, enum bn_guide_kernel *out)
{
	const size_t n = strcspn(word, ".");

	for (unsigned k = 0; k < BN_GUIDE_KERNELS; k++) {
		const bool whole = word[n] == '\0' && strcmp(word, kernel_words[k]) == 0;

		if (whole ||
		    (n == strlen(kernel_stems[k]) && strncmp(word, kernel_stems[k], n) == 0)) {
			*out = (enum bn_guide_kernel)k;
			return true;
		}
	}
	return false;
}

bool bn_guide_allows(const struct bn_guide_model *model, enum bn_guide_processor processor,
		     enum bn_guide_kernel kernel)
{
	if (model != NULL && (model->without & WITHOUT(kernel)) != 0) {
		return false;
	}
	return on_processor[processor][kernel];
}

bool bn_guide_runs(const struct bn_guide_model *model, uint64_t cpu, const struct bn_kernel *kernel,
		   uint32_t rows, uint32_t cols)
{
	enum bn_guide_kernel family;

	return bn_guide_kernel_of(kernel->name, &family) &&
	       bn_guide_allows(model, bn_guide_processor(cpu), family) &&
	       (kernel->needs & cpu) == kernel->needs && kernel->fits(rows, cols);
}

/* For every matrix of the shape. */
static bool runs_all(const struct bn_guide_model *model, const struct bn_shape *shape, uint64_t cpu,
		     const struct bn_kernel *kernel)
{
	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		uint32_t rows, cols;

		bn_shape_projection(shape, (enum bn_projection)p, &rows, &cols);
		if (!bn_guide_runs(model, cpu, kernel, rows, cols)) {
			return false;
		}
	}
	return true;
}

/* The i-th kernel of this binary that is of `family` and runs the whole model, best first. */
static const struct bn_kernel *runner(const struct bn_guide_model *model,
				      const struct bn_shape *shape, uint64_t cpu,
				      enum bn_guide_kernel family, size_t i)
{
	const struct bn_kernel *const *all;
	const size_t n = bn_kernels(&all);

	for (size_t k = 0; k < n; k++) {
		enum bn_guide_kernel own;

		if (bn_guide_kernel_of(all[k]->name, &own) && own == family &&
		    runs_all(model, shape, cpu, all[k]) && i-- == 0) {
			return all[k];
		}
	}
	return NULL;
}

const struct bn_kernel *bn_guide_best(const struct bn_guide_model *model,
				      const struct bn_shape *shape, uint64_t cpu,
				      enum bn_guide_kernel family)
{
	return runner(model, shape, cpu, family, 0);
}

/* Text that is cut at its end instead of overflowing. */
static void append(char *text, size_t size, const char *a, const char *b)
{
	const size_t n = strlen(text);

	snprintf(text + n, size - n, "%s%s", a, b);
}

char *bn_guide_list(const struct bn_guide_model *model, const struct bn_shape *shape, uint64_t cpu,
		    char *text, size_t size)
{
	const enum bn_guide_processor processor = bn_guide_processor(cpu);

	text[0] = '\0';
	for (unsigned f = 0; f < BN_GUIDE_KERNELS; f++) {
		const enum bn_guide_kernel family = (enum bn_guide_kernel)f;
		const struct bn_kernel *k;

		for (size_t i = 0; (k = runner(model, shape, cpu, family, i)) != NULL; i++) {
			if (i == 0) {
				append(text, size, text[0] != '\0' ? ", " : "", kernel_words[f]);
			}
			append(text, size, i == 0 ? " (" : ", ", k->name);
		}
		if (runner(model, shape, cpu, family, 0) != NULL) {
			append(text, size, ")", "");
		}
	}
	if (text[0] != '\0') {
		return text;
	}
	for (unsigned f = 0; f < BN_GUIDE_KERNELS; f++) {
		if (bn_guide_allows(model, processor, (enum bn_guide_kernel)f)) {
			append(text, size,
			       text[0] != '\0' ? " or " : "none of this build, it needs ",
			       kernel_words[f]);
		}
	}
	return text;
}

static bool choose_auto(const struct bn_guide_model *model, const struct bn_shape *shape,
			uint64_t cpu, enum bn_guide_kernel *out)
{
	const struct bn_kernel *const *all;
	const size_t n = bn_kernels(&all);

	if (bn_guide_best(model, shape, cpu, BN_GUIDE_I2S) != NULL) {
		*out = BN_GUIDE_I2S;
		return true;
	}
	for (size_t k = 0; k < n; k++) {
		if (runs_all(model, shape, cpu, all[k])) {
			return bn_guide_kernel_of(all[k]->name, out);
		}
	}
	return false;
}

enum bn_status bn_guide_choose(const struct bn_guide_model *model, const struct bn_shape *shape,
			       uint64_t cpu, const char *word, enum bn_guide_kernel *out,
			       struct bn_error *err)
{
	const bool any = word == NULL || strcmp(word, "auto") == 0;
	enum bn_guide_kernel family;
	char list[256];

	if (!any && !bn_guide_kernel_of(word, &family)) {
		return bn_fail(err, BN_E_KERNEL,
			       "there is no kernel '%.32s'; kernels are i2_s, tl1 and tl2, or auto",
			       word);
	}
	if (any ? choose_auto(model, shape, cpu, &family)
		: bn_guide_best(model, shape, cpu, family) != NULL) {
		*out = family;
		return BN_OK;
	}
	return bn_fail(err, BN_E_KERNEL,
		       "%s: kernel %s does not run on this %s processor; what works here: %s",
		       model != NULL ? model->name : "this model", any ? "auto" : word,
		       bn_guide_processor_word(bn_guide_processor(cpu)),
		       bn_guide_list(model, shape, cpu, list, sizeof(list)));
}
