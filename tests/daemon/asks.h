/*
 * What tests of requests stand on, beside rig.h: two models, requests over them, and sinks that
 * write down what they hear.
 *
 * It tests nothing.
 */
#ifndef BN_TESTS_DAEMON_ASKS_H
#define BN_TESTS_DAEMON_ASKS_H

#include "daemon/requests.h"
#include "tests/daemon/rig.h"

enum { ASKS_MAX = 64, TEXT_MAX = 16384 };

/* A request and what its sink heard. */
struct ask {
	struct bn_request *request;
	uint32_t done, events, deltas, queued, loading, progress;
	bool failed;
	struct bn_error err;
	char text[TEXT_MAX];
	size_t n_text;
	uint32_t tokens;     /* of deltas */
	uint32_t completion; /* of the outcome */
	int64_t seed;
	const char *reason;
	uint64_t load_ns, queue_ns;
};

struct asks {
	struct rig rig;
	struct ask ask[ASKS_MAX];
	uint32_t n;
};

/* Opens with "ann" and "bob", who both fit: 40 may wait, 30 for a model, 20 of a user. */
struct asks *asks_open(uint32_t max_batch);

/* Asserts that nothing is left. */
void asks_close(struct asks *s);

/* Parameters with the least there must be, and seed 5. */
union bn_params asks_params(const char *model, const char *prompt, int64_t max_tokens);

/* Starts one, as uid 1 (and it must start), or as said. */
struct ask *asks_start(struct asks *s, const union bn_params *p);
enum bn_status asks_start_as(struct asks *s, const union bn_params *p, uid_t uid, struct ask **out,
			     struct bn_error *err);

/* For rig_until: of a struct ask; of a struct asks, that everything has come back, from helpers
 * and the lead too, where a cancelled one may still be for a moment after it was answered. */
bool ask_is_done(void *who);
bool ask_has_text(void *who);
bool asks_are_settled(void *who);

/* Turns the loop until it was answered; until all are settled. */
void asks_until_done(struct asks *s, struct ask *a);
void asks_settle(struct asks *s);

/* Starts one and waits for its good end; for its bad one, at once or later, with those words. */
struct ask *asks_finish_one(struct asks *s, const union bn_params *p);
void asks_expect(struct asks *s, const union bn_params *p, enum bn_status status,
		 const char *words);

#endif
