/*
 * The text is kept as well as printed: a chat must send it back, and a newline is owed at the end
 * exactly when the answer did not bring one.
 */
#include "client/generate.h"

#include "client/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One request is in flight on a connection at a time, so its name can be the same every time. */
static const char request_id[] = "bnctl";

struct stream {
	struct bn_ctl *ctl;
	struct bn_generated *made;
	unsigned interrupts_seen;
	bool no_memory;
};

static void keep(struct stream *s, struct bn_client_text t)
{
	char *text = realloc(s->made->text, s->made->n + t.n + 1);

	if (text == NULL) {
		s->no_memory = true;
		return;
	}
	memcpy(text + s->made->n, t.at, t.n);
	s->made->text = text;
	s->made->n += t.n;
	text[s->made->n] = '\0';
}

static void print(struct bn_ctl *ctl, struct bn_client_text t)
{
	bn_term_progress_end(&ctl->err);
	if (ctl->out.terminal) {
		bn_term_write(&ctl->out, t.at, t.n, true);
	} else {
		fwrite(t.at, 1, t.n, ctl->out.to);
	}
	fflush(ctl->out.to);
}

static void show_waiting(struct stream *s, struct bn_client_value params)
{
	struct bn_ctl *ctl = s->ctl;
	struct bn_client_text event = bn_client_text(bn_client_get(params, "event"));
	char text[64];

	if (ctl->quiet || s->made->n > 0) {
		return;
	}
	if (event.n == 6 && memcmp(event.at, "status", 6) == 0) {
		struct bn_client_text state = bn_client_text(bn_client_get(params, "state"));
		struct bn_client_value progress = bn_client_get(params, "progress");

		snprintf(text, sizeof(text), "%.*s", (int)state.n, state.at);
		bn_term_progress(&ctl->err, ctl->operands[0], bn_client_get_num(progress, -1),
				 text);
	} else if (event.n == 6 && memcmp(event.at, "queued", 6) == 0) {
		int64_t ahead = bn_client_get_int(bn_client_get(params, "position"), 0);

		snprintf(text, sizeof(text), "waiting, %" PRId64 " ahead", ahead);
		bn_term_progress(&ctl->err, ctl->operands[0], -1, text);
	}
}

static void on_event(void *who, const char *name, struct bn_client_value params)
{
	struct stream *s = who;
	struct bn_client_text text = bn_client_text(bn_client_get(params, "text"));

	if (strcmp(name, "stream") != 0) {
		return;
	}
	if (text.n > 0) {
		print(s->ctl, text);
		keep(s, text);
	} else {
		show_waiting(s, params);
	}
}

static bool keep_waiting(void *who)
{
	struct stream *s = who;
	unsigned n = bn_ctl_interrupts();

	if (n > 1) {
		return false;
	}
	if (n != s->interrupts_seen) {
		struct bn_client_params *p = bn_client_params_new();

		s->interrupts_seen = n;
		bn_client_str(p, "id", request_id);
		(void)bn_client_notify(s->ctl->client, "cancel", p);
		bn_client_params_free(p);
	}
	return true;
}

static void print_stats(struct bn_ctl *ctl, struct bn_client_value r)
{
	struct bn_client_text kernel = bn_client_text(bn_client_get(r, "kernel"));
	struct bn_client_text why = bn_client_text(bn_client_get(r, "finish_reason"));

	fprintf(ctl->err.to,
		"%s%" PRId64 " prompt tokens in %.0f ms, %" PRId64 " tokens at %.1f a second "
		"(queue %.0f ms, load %.0f ms); ended by %.*s; seed %" PRId64 ", kernel %.*s%s\n",
		bn_term_colour(&ctl->err, BN_COLOUR_DIM),
		bn_client_get_int(bn_client_get(r, "usage.prompt_tokens"), 0),
		bn_client_get_num(bn_client_get(r, "timings.prefill_ms"), 0),
		bn_client_get_int(bn_client_get(r, "usage.completion_tokens"), 0),
		bn_client_get_num(bn_client_get(r, "timings.tok_per_s"), 0),
		bn_client_get_num(bn_client_get(r, "timings.queue_ms"), 0),
		bn_client_get_num(bn_client_get(r, "timings.load_ms"), 0), (int)why.n, why.at,
		bn_client_get_int(bn_client_get(r, "seed"), 0), (int)kernel.n, kernel.at,
		bn_term_colour(&ctl->err, BN_COLOUR_PLAIN));
}

/* The end of a call that ran: newline, notices, exit code. */
static int settle(struct stream *s, enum bn_client_status status,
		  const struct bn_client_reply *reply)
{
	struct bn_ctl *ctl = s->ctl;

	bn_term_progress_end(&ctl->err);
	if (s->made->n > 0 && s->made->text[s->made->n - 1] != '\n') {
		fputc('\n', ctl->out.to);
		fflush(ctl->out.to);
	}
	if (status == BN_CLIENT_GIVEN_UP || (status == BN_CLIENT_REFUSED && reply->code == 499)) {
		s->made->cancelled = true;
		bn_ctl_complain(ctl, "%s",
				status == BN_CLIENT_GIVEN_UP
					? "stopped waiting; the request ends with the "
					  "connection"
					: "cancelled");
		return BN_EXIT_INTERRUPTED;
	}
	if (status != BN_CLIENT_OK) {
		return bn_ctl_report(ctl, status, reply);
	}
	if (ctl->json) {
		return bn_json_print(ctl->out.to, reply->result, false) ? BN_EXIT_OK : BN_EXIT_IO;
	}
	if (bn_ctl_option(ctl, "stats") != NULL) {
		print_stats(ctl, reply->result);
	}
	return BN_EXIT_OK;
}

int bn_generate(struct bn_ctl *ctl, const char *method, struct bn_client_params *p,
		struct bn_generated *made)
{
	struct stream s = { .ctl = ctl, .made = made };
	struct bn_client_hooks hooks = {
		.size = sizeof(hooks), .who = &s, .event = on_event, .keep_waiting = keep_waiting
	};
	struct bn_client_reply reply;
	int code;

	memset(made, 0, sizeof(*made));
	code = bn_ctl_connect(ctl);
	if (code != BN_EXIT_OK) {
		return code;
	}
	bn_client_str(p, "id", request_id);
	bn_client_bool(p, "stream", !ctl->json);
	bn_ctl_params(ctl, p);
	bn_ctl_clear_interrupts();
	bn_ctl_catch_interrupts();
	code = settle(&s, bn_client_call(ctl->client, method, p, &hooks, &reply), &reply);
	if (s.no_memory && code == BN_EXIT_OK) {
		bn_ctl_complain(ctl, "no memory to keep the answer");
		code = BN_EXIT_SOFTWARE;
	}
	return code;
}

void bn_generated_finish(struct bn_generated *made)
{
	free(made->text);
	memset(made, 0, sizeof(*made));
}
