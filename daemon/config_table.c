/*
 * Every setting there is: where it stands in the file, where in the struct, its type, default and
 * range, when a change takes effect, and the sentence for people.
 */
#include "daemon/config.h"

#include <assert.h>
#include <stddef.h>

static const char *const log_words[] = { "error", "warn", "info", "debug", NULL };
static const char *const may_words[] = { "status", "generate", "load", "admin", NULL };

static_assert(BN_MAY_STATUS == 1 << 0 && BN_MAY_GENERATE == 1 << 1 && BN_MAY_LOAD == 1 << 2 &&
		      BN_MAY_ADMIN == 1 << 3 && BN_MAY_ALL == (1 << 4) - 1,
	      "may_words are the bits in this order");

/* clang-format off: one row of the table is one setting */
#define KIB           1024
#define MIB           (INT64_C(1) << 20)
#define PIB           (INT64_C(1) << 50)
#define HOUR_MS       3600000
#define YEAR_MS       INT64_C(31536000000)
#define IN(s, member) offsetof(struct s, member)
#define NO_HAS        .has = SIZE_MAX
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define NUMS(lo, hi)  .num_min = (lo), .num_max = (hi)
#define SINCE(moment) .when = BN_CONFIG_##moment

/* A member of struct bn_config under its own path. */
#define ROOT(p, TYPE, m, text) \
	.path = p, .type = BN_SETTING_##TYPE, .at = IN(bn_config, m), .fallback = text, NO_HAS
#define MODEL(p, TYPE, m, text)                                                         \
	.path = "models[]." p, .type = BN_SETTING_##TYPE, .at = IN(bn_config_model, m), \
	.fallback = text
#define RULE(p, TYPE, m) \
	.path = "access[]." p, .type = BN_SETTING_##TYPE, .at = IN(bn_config_rule, m), NO_HAS

/* The sampling values, once for all models and once for each. */
#define SAMPLING_ROW(prefix, S, name, TYPE, limits, without, sentence) \
	{ .path = prefix #name,                                        \
	  .type = BN_SETTING_##TYPE,                                   \
	  .at = IN(S, name),                                           \
	  .has = IN(S, has_##name),                                    \
	  limits,                                                      \
	  SINCE(NOW),                                                  \
	  .missing = without,                                          \
	  .doc = sentence },
#define SAMPLING(ROW)                                                                        \
	ROW(temperature, NUM, NUMS(0, 5), "the model file's, else 0.8",                      \
	    "Randomness; 0 always takes the likeliest token.")                               \
	ROW(top_k, INT, RANGE(0, 1048576), "the model file's, else 40",                      \
	    "Keep the k likeliest tokens; 0 keeps all.")                                     \
	ROW(top_p, NUM, NUMS(0, 1), "the model file's, else 0.95",                           \
	    "Keep the likeliest tokens whose probabilities sum to p; 1 keeps all.")          \
	ROW(min_p, NUM, NUMS(0, 1), "the model file's, else 0.05",                           \
	    "Drop tokens less likely than this share of the likeliest; 0 keeps all.")        \
	ROW(typical_p, NUM, NUMS(0, 1), "1", "Locally typical sampling; 1 switches it off.") \
	ROW(repeat_penalty, NUM, NUMS(0.1, 10), "1",                                         \
	    "Divides the score of tokens seen lately; 1 switches it off.")                   \
	ROW(repeat_last_n, INT, RANGE(-1, 1048576), "64",                                    \
	    "How many tokens the penalties look back; 0 none, -1 the whole context.")        \
	ROW(presence_penalty, NUM, NUMS(-2, 2), "0",                                         \
	    "Subtracted from the score of every token already seen.")                        \
	ROW(frequency_penalty, NUM, NUMS(-2, 2), "0",                                        \
	    "Subtracted once for each time the token was seen.")

#define GLOBAL_ROW(name, TYPE, limits, without, sentence)     \
	{ .path = "defaults." #name,                          \
	  .type = BN_SETTING_##TYPE,                          \
	  .at = IN(bn_config, defaults.sampling.name),        \
	  .has = IN(bn_config, defaults.sampling.has_##name), \
	  limits,                                             \
	  SINCE(NOW),                                         \
	  .missing = without,                                 \
	  .doc = sentence },
#define OWN_ROW(name, TYPE, limits, without, sentence)     \
	{ .path = "models[].defaults." #name,              \
	  .type = BN_SETTING_##TYPE,                       \
	  .at = IN(bn_config_model, sampling.name),        \
	  .has = IN(bn_config_model, sampling.has_##name), \
	  limits,                                          \
	  SINCE(NOW),                                      \
	  .missing = "that of the section defaults",       \
	  .doc = sentence },

static const struct bn_setting table[] = {
	{ ROOT("socket.path", TEXT, socket.path, "\0"), SINCE(RESTART),
	  .missing = "/run/bnd/bnd.sock as a system service, else $XDG_RUNTIME_DIR/bnd/bnd.sock",
	  .doc = "Where clients connect; not used when systemd hands over the socket." },
	{ ROOT("socket.group", TEXT, socket.group, ""), SINCE(RESTART),
	  .missing = "the group bnd runs as", .doc = "Group of the socket, a name or a number." },
	{ ROOT("socket.mode", MODE, socket.mode, "0660"), SINCE(RESTART),
	  .doc = "Permission bits of the socket: who may connect at all." },

	{ ROOT("memory.budget", BUDGET, memory.budget, "auto"), RANGE(64 * MIB, PIB), SINCE(NOW),
	  .doc = "All memory for weights, context and working space together; never exceeded." },
	{ ROOT("memory.headroom", SIZE, memory.headroom, "1GiB"), RANGE(0, PIB), SINCE(NOW),
	  .doc = "With budget auto: how much of the memory free at start is left to others." },

	{ ROOT("workers.cores", CORES, workers.cores, "auto"), RANGE(1, 256), SINCE(RESTART),
	  .doc = "The cores that compute: auto takes one thread of every core we may use, a number "
		 "that many of them, a list exactly those." },
	{ ROOT("workers.step_target_ms", COUNT, workers.step_target_ms, "80"), RANGE(1, 10000),
	  SINCE(RESTART),
	  .doc = "How long one step may take while several requests run: how smoothly others' text "
		 "flows while somebody's long prompt is read." },
	{ ROOT("workers.max_batch", COUNT, workers.max_batch, "32"), RANGE(1, 1024), SINCE(RESTART),
	  .doc = "Requests of one model that are computed together." },
	{ ROOT("workers.prefill_chunk", COUNT, workers.prefill_chunk, "512"), RANGE(1, 8192),
	  SINCE(RESTART), .doc = "Most prompt tokens read in one step." },
	{ ROOT("workers.mask_features", TEXTS, workers.mask_features, "[]"), SINCE(RESTART),
	  .doc = "Processor features to pretend not to have, to compare kernels or dodge a bug." },

	{ ROOT("kernels", TEXTS, kernels, "[]"), SINCE(NEXT_LOAD),
	  .doc = "Kernels or families of kernels (tl2) in order of preference, the first that fits "
		 "wins; empty: the fastest." },

	{ MODEL("name", NAME, name, NULL), NO_HAS, .must = true, SINCE(NOW),
	  .doc = "What clients call it." },
	{ MODEL("path", TEXT, path, NULL), NO_HAS, .must = true, SINCE(NEXT_LOAD),
	  .doc = "The GGUF file; a relative path starts at the folder of this file." },
	{ MODEL("aliases", NAMES, aliases, "[]"), NO_HAS, SINCE(NOW),
	  .doc = "Other names for it." },
	{ MODEL("context", COUNT, context, "0"), NO_HAS, RANGE(0, 1048576), SINCE(NEXT_LOAD),
	  .doc = "Longest prompt and answer together, in tokens; 0: what it was trained for." },
	{ MODEL("weight", COUNT, weight, "1"), NO_HAS, RANGE(1, 1000), SINCE(NOW),
	  .doc = "Share of the processor against other busy models: 2 gets twice the time of 1." },
	{ MODEL("keep_alive", KEEP, keep_alive_ms, NULL),
	  .has = IN(bn_config_model, has_keep_alive), RANGE(0, YEAR_MS), SINCE(NOW),
	  .missing = "that of the section defaults",
	  .doc = "How long it stays in memory after its last request." },
	{ MODEL("pin", BOOL, pin, "false"), NO_HAS, SINCE(NOW),
	  .doc = "Never take it out of memory to make room for another." },
	{ MODEL("preload", BOOL, preload, "false"), NO_HAS, SINCE(NOW),
	  .doc = "Load it at start instead of at the first request." },
	{ MODEL("kernels", TEXTS, kernels, NULL), .has = IN(bn_config_model, has_kernels),
	  SINCE(NEXT_LOAD), .missing = "that of the section kernels",
	  .doc = "Kernels for this model, in order of preference." },
	{ MODEL("template", TEXT, template, "auto"), NO_HAS, SINCE(NEXT_LOAD),
	  .doc = "Chat template: auto finds it out from the file." },
	{ MODEL("max_tokens", COUNT, max_tokens, NULL), .has = IN(bn_config_model, has_max_tokens),
	  RANGE(1, 1048576), SINCE(NOW), .missing = "that of the section defaults",
	  .doc = "Longest answer when a request does not say." },
	SAMPLING(OWN_ROW)

		{ ROOT("limits.clients", COUNT, limits.clients, "1024"), RANGE(1, 65536),
		  SINCE(NOW), .doc = "Connections at a time." },
	{ ROOT("limits.connections_per_user", COUNT, limits.connections_per_user, "256"),
	  RANGE(1, 65536), SINCE(NOW), .doc = "Connections of one user at a time." },
	{ ROOT("limits.in_flight", COUNT, limits.in_flight, "64"), RANGE(1, 65536), SINCE(NOW),
	  .doc = "Unanswered requests of one connection before it is read no further." },
	{ ROOT("limits.queue", COUNT, limits.queue, "512"), RANGE(1, 1048576), SINCE(NOW),
	  .doc = "Requests that wait, all together; more are refused." },
	{ ROOT("limits.queue_per_model", COUNT, limits.queue_per_model, "256"), RANGE(1, 1048576),
	  SINCE(NOW), .doc = "Requests that wait for one model." },
	{ ROOT("limits.queue_per_user", COUNT, limits.queue_per_user, "64"), RANGE(1, 1048576),
	  SINCE(NOW), .doc = "Requests of one user that wait." },
	{ ROOT("limits.message", SIZE, limits.message, "16MiB"), RANGE(4 * KIB, 16 * MIB),
	  SINCE(NOW), .doc = "Largest message a client may send." },
	{ ROOT("limits.output_soft", SIZE, limits.output_soft, "256KiB"),
	  RANGE(4 * KIB, 1024 * MIB), SINCE(NOW),
	  .doc = "Unread output of a client at which its generations pause." },
	{ ROOT("limits.output_hard", SIZE, limits.output_hard, "1MiB"), RANGE(4 * KIB, 1024 * MIB),
	  SINCE(NOW), .doc = "Unread output of a client at which it is disconnected." },
	{ ROOT("limits.stall_timeout", DURATION, limits.stall_timeout_ms, "10s"),
	  RANGE(100, HOUR_MS), SINCE(NOW),
	  .doc = "A client that leaves output unread for this long is disconnected." },
	{ ROOT("limits.stall_rate", SIZE, limits.stall_rate, "1KiB"), RANGE(0, 1024 * MIB),
	  SINCE(NOW), .doc = "Reading fewer bytes per second than this counts as not reading." },
	{ ROOT("limits.message_timeout", DURATION, limits.message_timeout_ms, "10s"),
	  RANGE(100, HOUR_MS), SINCE(NOW),
	  .doc = "A message that has begun must have arrived after this long." },

	{ ROOT("defaults.max_tokens", COUNT, defaults.max_tokens, "1024"), RANGE(1, 1048576),
	  SINCE(NOW), .doc = "Longest answer when a request does not say." },
	{ ROOT("defaults.keep_alive", KEEP, defaults.keep_alive_ms, "10m"), RANGE(0, YEAR_MS),
	  SINCE(NOW), .doc = "How long a model stays in memory after its last request." },
	SAMPLING(GLOBAL_ROW)

		{ RULE("user", TEXT, user), SINCE(NOW), .missing = "the entry names a group",
		  .doc = "A user, by name or number." },
	{ RULE("group", TEXT, group), SINCE(NOW), .missing = "the entry names a user",
	  .doc = "A group, by name or number; supplementary groups count." },
	{ RULE("may", WORDS, may), .must = true, SINCE(NOW), .words = may_words,
	  .doc = "What they may do." },

	{ ROOT("log.level", WORD, log.level, "info"), SINCE(NOW), .words = log_words,
	  .doc = "How much is logged; prompts and answers never are." },

	{ ROOT("shutdown.drain_timeout", DURATION, shutdown.drain_timeout_ms, "30s"),
	  RANGE(0, HOUR_MS), SINCE(NOW),
	  .doc = "How long running requests may go on after SIGTERM." },
};
/* clang-format on */

const struct bn_setting *bn_config_table(size_t *n)
{
	*n = sizeof(table) / sizeof(table[0]);
	return table;
}
