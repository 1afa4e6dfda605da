#include "engine/spm.h"

#include "engine/utf8.h"

#include <string.h>

/* Scores as integers that grow as the score falls; NaN behind everything. */
static uint32_t rank_of(float score)
{
	uint32_t bits;

	if (score != score) {
		return BN_MERGE_NONE - 1;
	}
	score += 0.0f; /* -0 becomes 0 */
	memcpy(&bits, &score, sizeof(bits));
	bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u; /* ascending */
	return ~bits;
}

/* True when a space follows another character somewhere in the text. */
static bool space_inside(struct bn_str text)
{
	for (size_t i = 1; i < text.n; i++) {
		if (text.p[i] == ' ' && text.p[i - 1] != ' ') {
			return true;
		}
	}
	return false;
}

void bn_spm_build(struct bn_spm *spm, struct bn_block *block, const struct bn_vocab *vocab,
		  const struct bn_lexicon *lex)
{
	uint32_t first = BN_TOKEN_NONE;

	*spm = (struct bn_spm){ .lex = lex, .flat = true, .words = true };
	spm->unk = vocab->unk < vocab->n_tokens ? vocab->unk : BN_TOKEN_NONE;
	spm->rank = bn_block_take(block, vocab->n_tokens, sizeof(*spm->rank));
	if (block->base == NULL) {
		return;
	}
	for (uint32_t i = 0; i < lex->n; i++) {
		spm->rank[i] = rank_of(vocab->scores == NULL ? 0.0f : vocab->scores[i]);
		if ((lex->flags[i] & BN_LEXICON_MERGEABLE) == 0) {
			continue;
		}
		if (first == BN_TOKEN_NONE) {
			first = i;
		}
		spm->flat = spm->flat && spm->rank[i] == spm->rank[first];
		spm->words = spm->words && !space_inside(bn_lexicon_text(lex, i));
	}
}

size_t bn_spm_next(const struct bn_spm *spm, const char *text, size_t n, size_t limit)
{
	size_t end = n < limit ? n : limit;

	if (spm->words) {
		for (size_t i = 1; i < end; i++) {
			if (text[i] == ' ' && text[i - 1] != ' ') {
				return i;
			}
		}
	}
	while (end < n && ((unsigned char)text[end] & 0xC0) == 0x80) {
		end--;
	}
	return end;
}

/* What a merge looks at. */
struct job {
	const struct bn_spm *spm;
	const char *text;
};

static bn_token find_mergeable(const struct bn_lexicon *lex, const char *text, size_t n)
{
	bn_token id = n > lex->longest ? BN_TOKEN_NONE : bn_lexicon_find(lex, text, n);

	return (bn_lexicon_flags(lex, id) & BN_LEXICON_MERGEABLE) != 0 ? id : BN_TOKEN_NONE;
}

static bool pair(const void *who, const struct bn_symbol *left, const struct bn_symbol *right,
		 uint32_t *rank, uint32_t *joined)
{
	const struct job *job = who;
	bn_token id = find_mergeable(job->spm->lex, job->text + left->start,
				     (size_t)left->bytes + right->bytes);

	if (id == BN_TOKEN_NONE) {
		return false;
	}
	*rank = job->spm->rank[id];
	*joined = id;
	return true;
}

enum bn_status bn_spm_encode(const struct bn_spm *spm, struct bn_merger *m, const char *text,
			     uint32_t n, struct bn_error *err)
{
	struct job job = { spm, text };

	m->n = 0;
	for (uint32_t i = 0; i < n;) {
		uint32_t cp;
		uint32_t bytes = (uint32_t)bn_utf8_decode(text + i, n - i, &cp);

		bn_merge_add(m, i, bytes, find_mergeable(spm->lex, text + i, bytes));
		i += bytes;
	}
	return bn_merge_run(m, pair, &job, err);
}

size_t bn_spm_fallback(const struct bn_spm *spm, const char *text, size_t n, bn_token *out)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = spm->lex->byte_id[(unsigned char)text[i]];
		if (out[i] == BN_TOKEN_NONE) {
			out[0] = spm->unk;
			return spm->unk == BN_TOKEN_NONE ? 0 : 1;
		}
	}
	return n;
}
