#include "engine/bpe.h"

#include <string.h>

/* See MAX_PROBE of lexicon.c. */
enum { MAX_PROBE = 2048 };

static uint32_t hash_of(bn_token left, bn_token right)
{
	uint64_t h = ((uint64_t)left << 32 | right) * 0xD6E8FEB86659FD93u;

	h ^= h >> 32;
	h *= 0xD6E8FEB86659FD93u;
	return (uint32_t)(h >> 32);
}

static const struct bn_bpe_slot *find(const struct bn_bpe *bpe, bn_token left, bn_token right)
{
	for (uint32_t at = hash_of(left, right);; at++) { /* a table always has empty slots */
		const struct bn_bpe_slot *slot = &bpe->slots[at & bpe->mask];

		if (slot->left == left && slot->right == right) {
			return slot;
		}
		if (slot->left == BN_TOKEN_NONE) {
			return NULL;
		}
	}
}

static bool enter(struct bn_bpe *bpe, const struct bn_bpe_slot *entry)
{
	uint32_t hash = hash_of(entry->left, entry->right);

	for (uint32_t probe = 0; probe < MAX_PROBE; probe++) {
		struct bn_bpe_slot *slot = &bpe->slots[(hash + probe) & bpe->mask];

		if (slot->left == BN_TOKEN_NONE) {
			*slot = *entry;
			return true;
		}
		if (slot->left == entry->left && slot->right == entry->right) {
			return true;
		}
	}
	return false;
}

static bn_token find_mergeable(const struct bn_lexicon *lex, const char *text, size_t n)
{
	bn_token id = bn_lexicon_find(lex, text, n);

	return (bn_lexicon_flags(lex, id) & BN_LEXICON_MERGEABLE) != 0 ? id : BN_TOKEN_NONE;
}

/*
 * Looks up the three tokens of merge "left right"; false when one does not exist. Files list the
 * ways to make a token behind each other, so the one `before` is often the one joined again.
 */
static bool resolve(const struct bn_lexicon *lex, struct bn_str merge, bn_token before,
		    struct bn_bpe_slot *entry)
{
	char text[2 * BN_TOKENIZER_TOKEN_BYTES];
	struct bn_str same = bn_lexicon_text(lex, before);
	const char *space = merge.n < 3 ? NULL : memchr(merge.p + 1, ' ', merge.n - 1);
	struct bn_str left;
	struct bn_str right;
	size_t n_left;
	size_t n_right;

	if (space == NULL) {
		return false;
	}
	left = (struct bn_str){ merge.p, (size_t)(space - merge.p) };
	right = (struct bn_str){ space + 1, merge.n - left.n - 1 };
	if (left.n > BN_TOKENIZER_TOKEN_BYTES || right.n > BN_TOKENIZER_TOKEN_BYTES) {
		return false;
	}
	n_left = bn_lexicon_from_gpt2(left, text);
	if (n_left == SIZE_MAX) {
		return false;
	}
	n_right = bn_lexicon_from_gpt2(right, text + n_left);
	if (n_right == SIZE_MAX) {
		return false;
	}
	entry->left = find_mergeable(lex, text, n_left);
	entry->right = find_mergeable(lex, text + n_left, n_right);
	if (same.n == n_left + n_right && memcmp(same.p, text, same.n) == 0) {
		entry->joined = before;
	} else {
		entry->joined = find_mergeable(lex, text, n_left + n_right);
	}
	return entry->left != BN_TOKEN_NONE && entry->right != BN_TOKEN_NONE &&
	       entry->joined != BN_TOKEN_NONE;
}

enum bn_status bn_bpe_build(struct bn_bpe *bpe, struct bn_block *block,
			    const struct bn_vocab *vocab, const struct bn_lexicon *lex,
			    struct bn_error *err)
{
	/* Two thirds full at most, a power of two. */
	uint64_t want = (uint64_t)vocab->n_merges * 3 / 2 + 16;
	uint64_t size = 16;
	bn_token before = BN_TOKEN_NONE;

	while (size < want) {
		size *= 2;
	}
	*bpe = (struct bn_bpe){
		.lex = lex,
		.mask = (uint32_t)(size - 1),
		.ignore_merges = vocab->ignore_merges,
	};
	bpe->slots = bn_block_take(block, size, sizeof(*bpe->slots));
	if (block->base == NULL) {
		return BN_OK;
	}

	memset(bpe->slots, 0xFF, size * sizeof(*bpe->slots));
	for (uint32_t i = 0; i < vocab->n_merges; i++) {
		struct bn_bpe_slot entry = { .rank = i };

		if (!resolve(lex, vocab->merges[i], before, &entry)) {
			bpe->lost++;
			continue;
		}
		before = entry.joined;
		if (!enter(bpe, &entry)) {
			return bn_fail(err, BN_E_FORMAT,
				       "the merges of the vocabulary are chosen to collide (at "
				       "merge %u)",
				       i);
		}
	}
	return BN_OK;
}

static bool pair(const void *who, const struct bn_symbol *left, const struct bn_symbol *right,
		 uint32_t *rank, uint32_t *joined)
{
	const struct bn_bpe *bpe = who;
	const struct bn_bpe_slot *slot = find(bpe, left->id, right->id);

	if (slot == NULL) {
		return false;
	}
	*rank = slot->rank;
	*joined = slot->joined;
	return true;
}

enum bn_status bn_bpe_encode(const struct bn_bpe *bpe, struct bn_merger *m, const char *piece,
			     uint32_t n, struct bn_error *err)
{
	m->n = 0;
	if (bpe->ignore_merges && n <= bpe->lex->longest) {
		bn_token whole = find_mergeable(bpe->lex, piece, n);

		if (whole != BN_TOKEN_NONE) {
			bn_merge_add(m, 0, n, whole);
			return BN_OK;
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		bn_token id = bpe->lex->byte_id[(unsigned char)piece[i]];

		if (id != BN_TOKEN_NONE) {
			bn_merge_add(m, i, 1, id);
		}
	}
	return bn_merge_run(m, pair, bpe, err);
}
