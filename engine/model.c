#include "engine/model.h"

#include "engine/guide.h"
#include "engine/utf8.h"
#include "kernels/cpu.h"
#include "proto/assert.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bn_model_plan {
	struct bn_file file;
	struct bn_gguf *gguf;
	struct bn_hyper hyper;
	struct bn_binding *binding;
	struct bn_tokenizer *tok; /* moves to the model */
	const struct bn_chat_template *chat;
	const struct bn_guide_model *known; /* NULL: not a published one             */
	bool certain;                       /* the file says it is that model        */
	uint64_t cpu;
	struct bn_model_info info;
};

/* Foreign bytes as one line of valid UTF-8, cut at a character. */
static void copy_text(char dst[BN_MODEL_TEXT_BYTES], struct bn_str src)
{
	size_t n = 0;

	while (src.n > 0) {
		uint32_t cp;
		const size_t used = bn_utf8_decode(src.p, src.n, &cp);
		char bytes[4];

		if (cp == UINT32_MAX || cp < 0x20 || cp == 0x7f) {
			cp = '?';
		}

		const size_t len = bn_utf8_encode(cp, bytes);

		if (n + len >= BN_MODEL_TEXT_BYTES) {
			break;
		}
		memcpy(dst + n, bytes, len);
		n += len;
		src.p += used;
		src.n -= used;
	}
	dst[n] = '\0';
}

/* An optional string: of no other use than to be shown, so a wrong type is ignored. */
static struct bn_str text_of(const struct bn_gguf *gguf, const char *key)
{
	struct bn_str s = { NULL, 0 };

	if (bn_gguf_has(gguf, key) && bn_gguf_str(gguf, key, &s, NULL) != BN_OK) {
		s = (struct bn_str){ NULL, 0 };
	}
	return s;
}

static void warn(struct bn_model_info *info, const char *sentence)
{
	if (info->n_warnings < BN_MODEL_WARNINGS_MAX) {
		snprintf(info->warnings[info->n_warnings++], BN_MODEL_TEXT_BYTES, "%s", sentence);
	}
}

static void describe_warnings(struct bn_model_plan *plan, const char *chat_warning)
{
	const unsigned bits = bn_tokenizer_warnings(plan->tok);
	const uint32_t tokens = bn_tokenizer_size(plan->tok);
	char text[BN_MODEL_TEXT_BYTES];

	for (unsigned bit = 1; bit != 0 && bit <= bits; bit <<= 1) {
		if ((bits & bit) != 0) {
			warn(&plan->info,
			     bn_tokenizer_warning_text((enum bn_tokenizer_warning)bit));
		}
	}
	if (chat_warning != NULL) {
		warn(&plan->info, chat_warning);
	}
	if (plan->known != NULL && plan->known->poor_chat && bn_chat_is_usable(plan->chat)) {
		snprintf(text, sizeof(text), "%s was %s", plan->known->name, plan->known->note);
		warn(&plan->info, text);
	}
	if (tokens < plan->hyper.vocab) {
		snprintf(text, sizeof(text),
			 "the embedding has %u rows and the vocabulary %u tokens: the rest is "
			 "padding",
			 plan->hyper.vocab, tokens);
		warn(&plan->info, text);
	}
}

static void describe_kernel(struct bn_model_plan *plan, const struct bn_model_options *options)
{
	struct bn_model_info *info = &plan->info;
	char features[96];

	bn_cpu_describe(options->cpu, features, sizeof(features));
	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		info->kernels[p] = plan->binding->kernel[p];
	}
	info->kernel = info->kernels[BN_PROJ_GATE]->name;
	info->vec = bn_vec_choose(options->cpu)->name;
	snprintf(info->kernel_why, sizeof(info->kernel_why), "%s (%s)",
		 options->kernels == NULL ? "the best that runs here"
					  : "the first of those configured that runs here",
		 features[0] != '\0' ? features : "no vector features");
}

static void describe(struct bn_model_plan *plan, const struct bn_model_options *options)
{
	const struct bn_hyper *h = &plan->hyper;
	const struct bn_binding *b = plan->binding;
	struct bn_model_info *info = &plan->info;
	const struct bn_kv_shape kv = { h->layers, h->kv_heads, h->head_dim, BN_KV_F16 };

	copy_text(info->name, text_of(plan->gguf, "general.name"));
	copy_text(info->licence, text_of(plan->gguf, "general.license"));
	info->known = plan->known != NULL ? plan->known->name : NULL;
	info->architecture = h->arch->name;
	info->activation = bn_family_activation_name(h->activation);
	info->tokenizer = bn_tokenizer_kind(plan->tok) == BN_TOKENIZER_BPE ? "bpe" : "spm";
	info->chat_template = bn_chat_name(plan->chat);
	info->embed_type = b->embed_type;
	info->head_type = b->head_type;
	info->tied = b->tied;
	info->sub_norms = b->sub_norms;
	info->input_norms = b->input_norms;
	info->post_norms = b->post_norms;
	info->pooling = bn_pooling_name(h->pooling);
	info->has_windows = h->window > 0;
	info->parameters = b->parameters;
	info->ternary_parameters = b->trits;
	info->layers = h->layers;
	info->dim = h->dim;
	info->ffn = h->ffn;
	info->heads = h->heads;
	info->kv_heads = h->kv_heads;
	info->head_dim = h->head_dim;
	info->vocab = bn_tokenizer_size(plan->tok);
	info->trained_context = h->context;
	info->context = h->context;
	if (options->max_context > 0 && options->max_context < h->context) {
		info->context = options->max_context;
	}
	info->file_bytes = plan->file.size;
	info->weights_bytes =
		bn_weights_bytes(b) + bn_tokenizer_bytes(plan->tok) + sizeof(struct bn_model);
	info->load_bytes = bn_gguf_bytes(plan->gguf) + bn_weights_transient_bytes(b);
	info->kv_position_bytes = bn_kv_position_bytes(&kv);
	describe_kernel(plan, options);
}

static enum bn_status choose_chat(struct bn_model_plan *plan,
				  const struct bn_model_options *options, const char **warning,
				  struct bn_error *err)
{
	const struct bn_architecture *arch = plan->hyper.arch;
	const struct bn_chat_hint hint = {
		.override = options->chat_template,
		.published = plan->certain ? plan->known->template : NULL,
		.architecture = { arch->name, strlen(arch->name) },
		.file_template = text_of(plan->gguf, "tokenizer.chat_template"),
		.tok = plan->tok,
	};

	return bn_chat_choose(&hint, &plan->chat, warning, err);
}

static void recognise(struct bn_model_plan *plan)
{
	const struct bn_shape shape = bn_hyper_shape(&plan->hyper);

	plan->known = bn_guide_recognise(&shape, plan->hyper.arch->name,
					 text_of(plan->gguf, "general.name"), &plan->certain);
}

static enum bn_status fill_plan(struct bn_model_plan *plan, const char *path,
				const struct bn_model_options *options, struct bn_error *err)
{
	const char *chat_warning = NULL;
	enum bn_status status = bn_file_open(&plan->file, AT_FDCWD, path, options->nofollow, err);

	if (status != BN_OK) {
		plan->file.fd = -1;
		return status;
	}
	status = bn_gguf_open(&plan->gguf, &plan->file, err);
	if (status == BN_OK) {
		status = bn_hyper_read(&plan->hyper, plan->gguf, err);
	}
	if (status == BN_OK) {
		status = bn_binding_new(&plan->binding, plan->gguf, &plan->file, &plan->hyper,
					options->cpu, options->kernels, err);
	}
	if (status == BN_OK) {
		status = bn_tokenizer_from_gguf(&plan->tok, plan->gguf, plan->hyper.vocab, err);
	}
	if (status == BN_OK) {
		recognise(plan);
		status = choose_chat(plan, options, &chat_warning, err);
	}
	if (plan->hyper.pooling != BN_POOL_NONE) {
		chat_warning = NULL; /* nobody will chat with it */
	}
	if (status == BN_OK) {
		plan->cpu = options->cpu;
		describe(plan, options);
		describe_warnings(plan, chat_warning);
	}
	return status;
}

enum bn_status bn_model_open(struct bn_model_plan **out, const char *path,
			     const struct bn_model_options *options, struct bn_error *err)
{
	struct bn_model_plan *plan = calloc(1, sizeof(*plan));
	enum bn_status status;

	if (plan == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory to open a model");
	}
	plan->file.fd = -1;
	status = fill_plan(plan, path, options, err);
	if (status != BN_OK) {
		bn_model_plan_free(plan);
		return status;
	}
	*out = plan;
	return BN_OK;
}

const struct bn_model_info *bn_model_plan_info(const struct bn_model_plan *plan)
{
	return &plan->info;
}

void bn_model_plan_free(struct bn_model_plan *plan)
{
	if (plan == NULL) {
		return;
	}
	bn_tokenizer_free(plan->tok);
	bn_binding_free(plan->binding);
	bn_gguf_free(plan->gguf);
	bn_file_close(&plan->file);
	free(plan);
}

enum bn_status bn_model_load(struct bn_model **out, struct bn_model_plan *plan,
			     struct bn_load_watch *watch, struct bn_error *err)
{
	const struct bn_hyper *h = &plan->hyper;
	struct bn_model *m = calloc(1, sizeof(*m));
	enum bn_status status;

	bn_assert(plan->tok != NULL); /* not loaded before */
	if (m == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for a model");
	}
	m->info = plan->info;
	status = bn_weights_load(&m->weights, plan->binding, watch, m->info.digest, err);
	if (status != BN_OK) {
		free(m);
		return status;
	}
	m->hyper = *h;
	m->vec = bn_vec_choose(plan->cpu);
	m->kv = (struct bn_kv_shape){ h->layers, h->kv_heads, h->head_dim, BN_KV_F16 };
	m->pooling = h->pooling;
	m->context = m->info.context;
	m->vocab = m->info.vocab;
	m->chat = plan->chat;
	m->tok = plan->tok;
	plan->tok = NULL;
	*out = m;
	return BN_OK;
}

void bn_model_free(struct bn_model *model)
{
	if (model == NULL) {
		return;
	}
	bn_tokenizer_free(model->tok);
	bn_weights_finish(&model->weights);
	free(model);
}
