/*
 * One generation as `run` and `chat` need it: send, stream to the terminal, cancel on Ctrl-C.
 *
 * It does not compose prompts and keeps no conversation.
 */
#ifndef BN_CLIENT_GENERATE_H
#define BN_CLIENT_GENERATE_H

#include "client/bnclient.h"
#include "client/bnctl.h"

#include <stdbool.h>
#include <stddef.h>

/* The sampling options of both verbs, and the row that ends a table. */
#define BN_GENERATE_OPTIONS                                                                        \
	{ 'n', "max-tokens", BN_CTL_INT, "N", "max_tokens", false, "Generate at most N tokens." }, \
		{ 't',                                                                             \
		  "temperature",                                                                   \
		  BN_CTL_NUM,                                                                      \
		  "X",                                                                             \
		  "temperature",                                                                   \
		  false,                                                                           \
		  "Randomness, 0 to 5; 0 always takes the likeliest token." },                     \
		{ 0,                                                                               \
		  "top-k",                                                                         \
		  BN_CTL_INT,                                                                      \
		  "N",                                                                             \
		  "top_k",                                                                         \
		  false,                                                                           \
		  "Keep the N likeliest tokens; 0 keeps all." },                                   \
		{ 0,                                                                               \
		  "top-p",                                                                         \
		  BN_CTL_NUM,                                                                      \
		  "P",                                                                             \
		  "top_p",                                                                         \
		  false,                                                                           \
		  "Keep the likeliest tokens that sum to P." },                                    \
		{ 0,                                                                               \
		  "min-p",                                                                         \
		  BN_CTL_NUM,                                                                      \
		  "P",                                                                             \
		  "min_p",                                                                         \
		  false,                                                                           \
		  "Drop tokens less likely than P times the likeliest." },                         \
		{ 0,                                                                               \
		  "repeat-penalty",                                                                \
		  BN_CTL_NUM,                                                                      \
		  "X",                                                                             \
		  "repeat_penalty",                                                                \
		  false,                                                                           \
		  "Divide the score of tokens seen lately." },                                     \
		{ 's',                                                                             \
		  "seed",                                                                          \
		  BN_CTL_INT,                                                                      \
		  "N",                                                                             \
		  "seed",                                                                          \
		  false,                                                                           \
		  "Same seed, same answer, byte for byte." },                                      \
		{ 0,                                                                               \
		  "stop",                                                                          \
		  BN_CTL_TEXT,                                                                     \
		  "TEXT",                                                                          \
		  "stop",                                                                          \
		  true,                                                                            \
		  "End before this text (may be repeated)." },                                     \
		{ 0,                                                                               \
		  "num-ctx",                                                                       \
		  BN_CTL_INT,                                                                      \
		  "N",                                                                             \
		  "num_ctx",                                                                       \
		  false,                                                                           \
		  "Reserve at most N tokens of context." },                                        \
		{ 0,                                                                               \
		  "keep-alive",                                                                    \
		  BN_CTL_TEXT,                                                                     \
		  "TIME",                                                                          \
		  "keep_alive",                                                                    \
		  false,                                                                           \
		  "How long the model stays in memory: 10m, 0s, -1 for ever." },                   \
		{ 0,                                                                               \
		  "deadline-ms",                                                                   \
		  BN_CTL_INT,                                                                      \
		  "MS",                                                                            \
		  "deadline_ms",                                                                   \
		  false,                                                                           \
		  "Fail if not complete by then." },                                               \
		{ 0,                                                                               \
		  "priority",                                                                      \
		  BN_CTL_TEXT,                                                                     \
		  "WORD",                                                                          \
		  "priority",                                                                      \
		  false,                                                                           \
		  "interactive, normal or batch." },                                               \
		{ 0,                                                                               \
		  "logprobs",                                                                      \
		  BN_CTL_INT,                                                                      \
		  "N",                                                                             \
		  "logprobs",                                                                      \
		  false,                                                                           \
		  "With --json: log-probabilities, and of the N likeliest." },                     \
		{ 0,                                                                               \
		  "stats",                                                                         \
		  BN_CTL_FLAG,                                                                     \
		  NULL,                                                                            \
		  NULL,                                                                            \
		  false,                                                                           \
		  "Tell counts and times on stderr at the end." },                                 \
	{                                                                                          \
		0, NULL, BN_CTL_FLAG, NULL, NULL, false, NULL                                      \
	}

/* What came of it. */
struct bn_generated {
	char *text; /* the whole answer, owned; NULL when empty */
	size_t n;
	bool cancelled;
};

/*
 * Calls `method` ("completions" or "chat.completions") with p, to which the given options, an id
 * and `stream` are added. Text goes to stdout as it comes, progress of loading to stderr. With
 * --json nothing is streamed and the reply is printed instead. Ctrl-C once cancels the request and
 * waits for the daemon to say so; twice stops waiting. Returns an exit code; *made is always set,
 * release it with bn_generated_finish().
 */
int bn_generate(struct bn_ctl *ctl, const char *method, struct bn_client_params *p,
		struct bn_generated *made);
void bn_generated_finish(struct bn_generated *made);

#endif
