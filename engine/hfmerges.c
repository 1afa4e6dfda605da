#include "engine/hfmerges.h"

#include "engine/lexicon.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct bn_str str(const char *text)
{
	return (struct bn_str){ text, strlen(text) };
}

/* The two sides of a merge, either "left right" or ["left", "right"]. */
static bool sides(const json_t *merge, struct bn_str *left, struct bn_str *right)
{
	const char *text = json_string_value(merge);
	const char *space;

	if (text != NULL) {
		space = strchr(text, ' ');
		if (space == NULL) {
			return false;
		}
		*left = (struct bn_str){ text, (size_t)(space - text) };
		*right = str(space + 1);
	} else {
		const char *a = json_string_value(json_array_get(merge, 0));
		const char *c = json_string_value(json_array_get(merge, 1));

		if (!json_is_array(merge) || json_array_size(merge) != 2 || a == NULL ||
		    c == NULL) {
			return false;
		}
		*left = str(a);
		*right = str(c);
	}
	return left->n > 0 && right->n > 0 && memchr(right->p, ' ', right->n) == NULL &&
	       memchr(left->p, ' ', left->n) == NULL;
}

enum bn_status bn_hfmerges_read(struct bn_hfmerges *out, const json_t *model, struct bn_error *err)
{
	const json_t *list = json_object_get(model, "merges");
	const size_t n = json_array_size(list);
	struct bn_hfmerges m = { .n = (uint32_t)n };
	struct bn_str left, right;
	size_t i, bytes = 0;
	json_t *merge;
	char *at;

	if (!json_is_array(list) || n > BN_TOKENIZER_MAX_MERGES) {
		return bn_fail(err, BN_E_FORMAT,
			       "tokenizer.json: 'model.merges' is no array of up to %d merges",
			       BN_TOKENIZER_MAX_MERGES);
	}
	json_array_foreach(list, i, merge)
	{
		if (!sides(merge, &left, &right)) {
			return bn_fail(
				err, BN_E_FORMAT,
				"tokenizer.json: model.merges[%zu] is neither \"left right\" nor "
				"[\"left\", \"right\"]",
				i);
		}
		bytes += left.n + right.n + 1;
	}
	at = m.text = malloc(bytes + 1);
	m.list = calloc(n + 1, sizeof(*m.list));
	if (at == NULL || m.list == NULL) {
		bn_hfmerges_finish(&m);
		return bn_fail(err, BN_E_MEMORY, "no memory for %zu merges", n);
	}
	json_array_foreach(list, i, merge)
	{
		sides(merge, &left, &right);
		memcpy(at, left.p, left.n);
		at[left.n] = ' ';
		memcpy(at + left.n + 1, right.p, right.n);
		m.list[i] = (struct bn_str){ at, left.n + 1 + right.n };
		at += left.n + 1 + right.n;
	}
	*out = m;
	return BN_OK;
}

void bn_hfmerges_finish(struct bn_hfmerges *m)
{
	free(m->list);
	free(m->text);
	memset(m, 0, sizeof(*m));
}

enum bn_status bn_hfmerges_scores(const struct bn_hfmerges *m, const json_t *vocab, float *scores,
				  uint32_t n, struct bn_error *err)
{
	char piece[BN_TOKENIZER_TOKEN_BYTES + 1];

	for (uint32_t i = 0; i < n; i++) {
		scores[i] = -(float)(m->n + 1);
	}
	for (uint32_t i = m->n; i-- > 0;) {
		const struct bn_str s = m->list[i];
		const char *space = memchr(s.p, ' ', s.n);
		const size_t left = (size_t)(space - s.p);
		const json_t *id = NULL;

		if (s.n - 1 <= BN_TOKENIZER_TOKEN_BYTES) {
			memcpy(piece, s.p, left);
			memcpy(piece + left, space + 1, s.n - left - 1);
			piece[s.n - 1] = '\0';
			id = json_object_get(vocab, piece);
		}
		if (id == NULL) {
			return bn_fail(err, BN_E_FORMAT,
				       "tokenizer.json: model.merges[%u], '%.*s', makes no token",
				       i, (int)(s.n < 64 ? s.n : 64), s.p);
		}
		scores[json_integer_value(id)] = -(float)i;
	}
	return BN_OK;
}
