/*
 * The verb embed: vectors of texts, or how near texts are to the first one.
 */
#include "client/bnctl.h"
#include "client/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	TEXTS_PER_CALL = 512,
	BYTES_PER_CALL = 8 << 20, /* well below the largest message */
	LINE_MAX_BYTES = 8 << 20,
};

/* What is printed as it comes. */
struct output {
	bool similar;
	json_t *cosines; /* kept to be one document at the end; NULL: lines */
	float *first;    /* [dim] the vector of the first text of all */
	uint32_t dim;
};

static float number_at(struct bn_client_text bytes, uint32_t i)
{
	const unsigned char *p = (const unsigned char *)bytes.at + 4 * (size_t)i;
	const uint32_t bits =
		(uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void print_vector(struct bn_client_text bytes)
{
	for (uint32_t i = 0; i < bytes.n / 4; i++) {
		printf("%s%.8g", i > 0 ? " " : "", (double)number_at(bytes, i));
	}
	putchar('\n');
}

/* The cosine of the angle to the first text: vectors have length 1. False without memory. */
static bool print_similarity(struct output *o, struct bn_client_text bytes, const char *text)
{
	const uint32_t dim = (uint32_t)(bytes.n / 4);
	double dot = 0.0;

	if (o->first == NULL) {
		o->first = calloc((size_t)dim + 1, sizeof(float));
		if (o->first == NULL) {
			return false;
		}
		o->dim = dim;
		for (uint32_t i = 0; i < dim; i++) {
			o->first[i] = number_at(bytes, i);
		}
	}
	for (uint32_t i = 0; i < dim && i < o->dim; i++) {
		dot += (double)o->first[i] * (double)number_at(bytes, i);
	}
	if (o->cosines != NULL) {
		return json_array_append_new(o->cosines, json_real(dot)) == 0;
	}
	printf("%7.4f  %s\n", dot, text);
	return true;
}

static struct bn_client_params *params_of(const struct bn_ctl *ctl, char *const *texts, size_t n)
{
	struct bn_client_params *p = bn_client_params_new();

	bn_client_str(p, "model", ctl->operands[0]);
	bn_client_array(p, "input");
	for (size_t i = 0; i < n; i++) {
		bn_client_str(p, NULL, texts[i]);
	}
	bn_client_end(p);
	bn_ctl_params(ctl, p);
	return p;
}

static void tell_cut(struct bn_ctl *ctl, struct bn_client_value result, size_t before)
{
	struct bn_client_iter it = bn_client_iterate(bn_client_get(result, "truncated"));
	struct bn_client_value index;

	while (bn_client_next(&it, NULL, &index)) {
		bn_ctl_complain(ctl, "text %lld was longer than the context and cut",
				(long long)before + bn_client_get_int(index, 0) + 1);
	}
}

/* One call; `before` texts went before these. */
static int embed(struct bn_ctl *ctl, struct output *o, char *const *texts, size_t n, size_t before)
{
	struct bn_client_params *p = params_of(ctl, texts, n);
	struct bn_client_reply reply;
	struct bn_client_iter it;
	struct bn_client_value vector;
	int code = bn_ctl_call(ctl, "embeddings", p, NULL, &reply);

	bn_client_params_free(p);
	if (code != BN_EXIT_OK) {
		return code;
	}
	tell_cut(ctl, reply.result, before);
	it = bn_client_iterate(bn_client_get(reply.result, "data"));
	for (size_t i = 0; i < n && bn_client_next(&it, NULL, &vector); i++) {
		const struct bn_client_text bytes = bn_client_text(vector);

		if (!o->similar) {
			print_vector(bytes);
		} else if (!print_similarity(o, bytes, texts[i])) {
			bn_ctl_complain(ctl, "no memory for a vector");
			return BN_EXIT_SOFTWARE;
		}
	}
	return fflush(stdout) == 0 ? BN_EXIT_OK : BN_EXIT_IO;
}

/* In as many calls as it takes. */
static int embed_all(struct bn_ctl *ctl, struct output *o, char *const *texts, size_t n)
{
	int code = BN_EXIT_OK;

	for (size_t from = 0; from < n && code == BN_EXIT_OK;) {
		size_t count = 0, bytes = 0;

		while (from + count < n && count < TEXTS_PER_CALL &&
		       (count == 0 || bytes + strlen(texts[from + count]) < BYTES_PER_CALL)) {
			bytes += strlen(texts[from + count++]);
		}
		code = embed(ctl, o, texts + from, count, from);
		from += count;
	}
	return code;
}

/* The answer as it is, with arrays of numbers; one call, for it is one document. */
static int embed_json(struct bn_ctl *ctl, char *const *texts, size_t n)
{
	struct bn_client_params *p = params_of(ctl, texts, n);
	struct bn_client_reply reply;
	bool shown;
	int code;

	bn_client_str(p, "encoding", "float");
	code = bn_ctl_query(ctl, "embeddings", p, &reply, &shown);
	bn_client_params_free(p);
	return code;
}

/* The model and the cosine of each text, in their order. */
static int similar_json(struct bn_ctl *ctl, struct output *o, char *const *texts, size_t n)
{
	int code;

	o->cosines = json_array();
	if (o->cosines == NULL) {
		bn_ctl_complain(ctl, "no memory for the cosines");
		return BN_EXIT_SOFTWARE;
	}
	code = embed_all(ctl, o, texts, n);
	if (code == BN_EXIT_OK &&
	    !bn_json_put(ctl->out.to, json_pack("{s:s, s:O}", "model", ctl->operands[0], "similar",
						o->cosines))) {
		code = BN_EXIT_IO;
	}
	json_decref(o->cosines);
	return code;
}

/* --- standard input -------------------------------------------------------------------------- */

struct lines {
	char **at;
	size_t n, room;
};

static bool keep_line(struct lines *l, char *line)
{
	if (l->n == l->room) {
		const size_t room = l->room > 0 ? 2 * l->room : 64;
		char **at = realloc(l->at, room * sizeof(*at));

		if (at == NULL) {
			return false;
		}
		l->at = at;
		l->room = room;
	}
	l->at[l->n++] = line;
	return true;
}

/* Each line is a text, also an empty one: the n-th vector belongs to the n-th line. */
static int read_lines(struct bn_ctl *ctl, struct lines *l)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t got;
	int code = BN_EXIT_OK;

	if (isatty(STDIN_FILENO) && !ctl->quiet) {
		fprintf(ctl->err.to, "Type texts, one to a line, end with Ctrl-D:\n");
	}
	while (code == BN_EXIT_OK && (got = getline(&line, &room, stdin)) >= 0) {
		while (got > 0 && (line[got - 1] == '\n' || line[got - 1] == '\r')) {
			line[--got] = '\0';
		}
		if (got > LINE_MAX_BYTES) {
			bn_ctl_complain(ctl, "line %zu is longer than %d MiB", l->n + 1,
					LINE_MAX_BYTES >> 20);
			code = BN_EXIT_NO_INPUT;
		} else if (strlen(line) != (size_t)got) {
			bn_ctl_complain(ctl, "line %zu has a zero byte: it is no text", l->n + 1);
			code = BN_EXIT_NO_INPUT;
		} else {
			char *copy = strdup(line);

			if (copy == NULL || !keep_line(l, copy)) {
				free(copy);
				bn_ctl_complain(ctl, "no memory for the texts");
				code = BN_EXIT_SOFTWARE;
			}
		}
	}
	free(line);
	if (code == BN_EXIT_OK && ferror(stdin)) {
		bn_ctl_complain(ctl, "cannot read texts from stdin: %s", strerror(errno));
		code = BN_EXIT_NO_INPUT;
	}
	if (code == BN_EXIT_OK && l->n == 0) {
		bn_ctl_complain(ctl, "there is no text on stdin");
		code = BN_EXIT_NO_INPUT;
	}
	return code;
}

static int run_embed(struct bn_ctl *ctl)
{
	const bool from_stdin = ctl->n_operands == 1 ||
				(ctl->n_operands == 2 && strcmp(ctl->operands[1], "-") == 0);
	struct output o = { .similar = bn_ctl_option(ctl, "similar") != NULL };
	struct lines l = { 0 };
	char *const *texts = ctl->operands + 1;
	size_t n = (size_t)ctl->n_operands - 1;
	int code = BN_EXIT_OK;

	if (from_stdin) {
		code = read_lines(ctl, &l);
		texts = l.at;
		n = l.n;
	}
	if (code == BN_EXIT_OK) {
		code = !ctl->json  ? embed_all(ctl, &o, texts, n)
		       : o.similar ? similar_json(ctl, &o, texts, n)
				   : embed_json(ctl, texts, n);
	}
	for (size_t i = 0; i < l.n; i++) {
		free(l.at[i]);
	}
	free(l.at);
	free(o.first);
	return code;
}

static const struct bn_ctl_option embed_options[] = {
	{ 's', "similar", BN_CTL_FLAG, NULL, NULL, false,
	  "Print the cosine of each text to the first instead." },
	{ 't', "truncate", BN_CTL_FLAG, NULL, "truncate", false,
	  "Cut texts longer than the context." },
	{ 0, "priority", BN_CTL_TEXT, "CLASS", "priority", false, "interactive, normal or batch." },
	{ 0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL },
};

const struct bn_ctl_command bn_cmd_embed = {
	.name = "embed",
	.operands = "MODEL [TEXT...]",
	.min_operands = 1,
	.max_operands = -1,
	.summary = "Turn texts into vectors, or compare them.",
	.help = "Each operand is a text; without any (or with -) each line of standard input is one. For\n"
		"each a line of numbers goes to standard output, a vector of length 1. An instruction the\n"
		"model was trained with, such as \"query: \", is yours to write in front of a text.",
	.options = embed_options,
	.run = run_embed,
};
