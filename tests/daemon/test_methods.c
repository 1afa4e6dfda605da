#include "daemon/methods.h"

#include "daemon/auth.h"
#include "daemon/config.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/pack.h"
#include "proto/value.h"
#include "tests/daemon/rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { ANSWER_MAX = 1 << 20 };

/* One client: our end of a socket pair, and the answers that came. */
struct client {
	struct bn_connection *connection;
	struct bn_peer peer;
	int fd;
	uint32_t msgid;
	struct bn_frame frame;
	unsigned char answer[ANSWER_MAX]; /* the last response */
	size_t n_answer;
	uint32_t answered; /* msgid of it */
	uint32_t events;
};

struct stage {
	struct rig rig;
	struct bn_methods *methods;
	struct bn_connections *connections;
	struct client client[2];
	bool closed;
};

static void client_up(struct stage *s, struct client *c, uint32_t rights)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	c->peer = (struct bn_peer){ .uid = 1000, .gid = 1000, .pid = 1, .rights = rights };
	c->fd = fds[1];
	bn_enter_loop();
	assert_int_equal(bn_connection_open(&c->connection, s->connections, fds[0], &c->peer, NULL),
			 BN_OK);
	bn_frame_init(&c->frame, BN_FRAME_CAPS);
}

static struct stage *open_stage(uint32_t rights)
{
	struct stage *s = calloc(1, sizeof(*s));
	struct bn_requests_limits limits = { 40, 30, 20, 4 };
	struct bn_methods_config mc = { .version = "1.2.3", .lanes = 1 };
	struct bn_connection_limits cl = { .in_flight = 64,
					   .message = 1 << 20,
					   .output_soft = 1 << 18,
					   .output_hard = 1 << 20,
					   .stall_timeout_ms = 10000,
					   .stall_rate = 1024,
					   .message_timeout_ms = 10000 };
	struct bn_connection_hooks hooks;

	rig_up(&s->rig);
	rig_scheduler(&s->rig, 1, 4, 32, NULL, NULL);
	rig_model(&s->rig, "ann", 1, 4096);
	rig_registry(&s->rig, UINT64_C(256) << 20, 100, 100);
	rig_requests(&s->rig, &limits);
	mc.loop = &s->rig.loop;
	mc.registry = s->rig.registry;
	mc.requests = s->rig.requests;
	mc.budget = s->rig.budget;
	bn_enter_loop();
	assert_int_equal(bn_methods_new(&s->methods, &mc, NULL), BN_OK);
	hooks = bn_methods_hooks(s->methods);
	assert_int_equal(bn_connections_new(&s->connections, &s->rig.loop, &cl, &hooks, NULL, NULL),
			 BN_OK);
	bn_methods_set_connections(s->methods, s->connections);
	bn_methods_set_ready(s->methods, true, NULL);
	client_up(s, &s->client[0], rights);
	client_up(s, &s->client[1], rights);
	return s;
}

static void on_group_closed(void *who)
{
	((struct stage *)who)->closed = true;
}

static bool group_is_closed(void *who)
{
	return ((struct stage *)who)->closed;
}

static void close_stage(struct stage *s)
{
	struct bn_methods *m = s->methods;

	bn_enter_loop();
	bn_connections_close(s->connections, 100, on_group_closed, s);
	rig_until(&s->rig, group_is_closed, s);
	for (int i = 0; i < 2; i++) {
		close(s->client[i].fd);
		bn_frame_finish(&s->client[i].frame);
	}
	rig_down(&s->rig);
	bn_methods_free(m);
	free(s);
}

/* Takes in what has arrived. */
static void take(struct client *c)
{
	for (;;) {
		struct bn_frame_message m;
		unsigned char *space;
		size_t room;
		ssize_t n;

		assert_int_equal(bn_frame_next(&c->frame, &m, NULL), BN_OK);
		if (m.bytes != NULL) {
			struct bn_message message;

			assert_int_equal(bn_message_open(&message, m.bytes, m.n, NULL), BN_OK);
			if (message.kind == BN_MESSAGE_NOTIFICATION) {
				c->events++;
				continue;
			}
			assert_true(m.n <= ANSWER_MAX);
			memcpy(c->answer, m.bytes, m.n);
			c->n_answer = m.n;
			c->answered = message.msgid;
			continue;
		}
		assert_int_equal(bn_frame_space(&c->frame, &space, &room, NULL), BN_OK);
		n = recv(c->fd, space, room, 0);
		if (n <= 0) {
			return;
		}
		bn_frame_commit(&c->frame, (size_t)n);
	}
}

static bool is_answered(void *who)
{
	struct client *c = who;

	take(c);
	return c->answered == c->msgid;
}

/* "key", value pairs: s a string, i an integer, b a bool; sends without waiting. */
static void vsend(struct client *c, const char *method, bool notify, const char *kinds,
		  va_list args)
{
	struct bn_pack p;

	bn_pack_init(&p);
	bn_pack_array(&p, NULL);
	bn_pack_int(&p, NULL, notify ? 2 : 0);
	if (!notify) {
		bn_pack_int(&p, NULL, ++c->msgid);
	}
	bn_pack_str(&p, NULL, method);
	bn_pack_array(&p, NULL);
	bn_pack_map(&p, NULL);
	for (; *kinds != '\0'; kinds++) {
		const char *key = va_arg(args, const char *);

		if (*kinds == 's') {
			bn_pack_str(&p, key, va_arg(args, const char *));
		} else if (*kinds == 'b') {
			bn_pack_bool(&p, key, va_arg(args, int) != 0);
		} else {
			bn_pack_int(&p, key, va_arg(args, int));
		}
	}
	bn_pack_end(&p);
	bn_pack_end(&p);
	bn_pack_end(&p);
	assert_int_equal(send(c->fd, p.data, p.used, 0), p.used);
	bn_pack_finish(&p);
}

static void notify(struct client *c, const char *method, const char *kinds, ...)
{
	va_list args;

	va_start(args, kinds);
	vsend(c, method, true, kinds, args);
	va_end(args);
}

static void post(struct client *c, const char *method, const char *kinds, ...)
{
	va_list args;

	va_start(args, kinds);
	vsend(c, method, false, kinds, args);
	va_end(args);
}

static struct bn_message answer_of(struct stage *s, struct client *c)
{
	struct bn_message m;

	rig_until(&s->rig, is_answered, c);
	assert_int_equal(bn_message_open(&m, c->answer, c->n_answer, NULL), BN_OK);
	return m;
}

/* A call that must succeed; its result. */
static struct bn_value result_of(struct stage *s, struct client *c)
{
	struct bn_message m = answer_of(s, c);
	struct bn_remote_error e;

	if (bn_message_read_error(&m, &e)) {
		fail_msg("%.*s", (int)e.text.n, e.text.at);
	}
	return m.result;
}

/* A call that must fail so. */
static void expect(struct stage *s, struct client *c, enum bn_status status, const char *words)
{
	struct bn_message m = answer_of(s, c);
	struct bn_remote_error e;
	char text[512];

	assert_true(bn_message_read_error(&m, &e));
	assert_int_equal(e.status, status);
	snprintf(text, sizeof(text), "%.*s", (int)e.text.n, e.text.at);
	if (strstr(text, words) == NULL) {
		fail_msg("'%s' is not in '%s'", words, text);
	}
}

/* --- rights --------------------------------------------------------------------------------- */

static void methods_ask_for_the_right_each_needs(void **state)
{
	static const struct {
		const char *method;
		uint32_t needs;
	} rows[] = {
		{ "server.info", 0 },
		{ "server.health", 0 },
		{ "server.status", BN_MAY_STATUS },
		{ "models.list", BN_MAY_STATUS },
		{ "models.ps", BN_MAY_STATUS },
		{ "models.show", BN_MAY_STATUS },
		{ "completions", BN_MAY_GENERATE },
		{ "tokenize", BN_MAY_GENERATE },
		{ "models.load", BN_MAY_LOAD },
		{ "models.unload", BN_MAY_LOAD },
	};
	static const uint32_t rights[] = { 0,           BN_MAY_STATUS, BN_MAY_GENERATE,
					   BN_MAY_LOAD, BN_MAY_ADMIN,  BN_MAY_ALL };

	(void)state;
	for (size_t r = 0; r < sizeof(rights) / sizeof(rights[0]); r++) {
		struct stage *s = open_stage(rights[r]);
		struct client *c = &s->client[0];

		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			struct bn_message m;
			struct bn_remote_error e;
			bool refused;

			post(c, rows[k].method, "");
			m = answer_of(s, c);
			/* Parameters are checked first and may be missing: then ask properly. */
			if (bn_message_read_error(&m, &e) && e.status == BN_E_INVALID) {
				if (strcmp(rows[k].method, "completions") == 0) {
					post(c, rows[k].method, "ssi", "model", "ann", "prompt",
					     "x", "max_tokens", 1);
				} else if (strcmp(rows[k].method, "tokenize") == 0) {
					post(c, rows[k].method, "ss", "model", "ann", "content",
					     "x");
				} else {
					post(c, rows[k].method, "s", "model", "ann");
				}
				m = answer_of(s, c);
			}
			refused = bn_message_read_error(&m, &e);
			if ((rows[k].needs & ~rights[r]) != 0) {
				assert_true(refused);
				assert_int_equal(e.status, BN_E_PERMISSION);
			} else {
				assert_false(refused);
			}
		}
		close_stage(s);
	}
}

static void methods_of_the_schema_are_all_answered(void **state)
{
	struct stage *s = open_stage(BN_MAY_ALL);
	struct client *c = &s->client[0];

	(void)state;
	for (int m = 0; m < BN_METHOD_COUNT; m++) {
		struct bn_message answer;
		struct bn_remote_error e;

		post(c, bn_method_info((enum bn_method)m)->name, "");
		answer = answer_of(s, c);
		if (bn_message_read_error(&answer, &e)) {
			assert_int_equal(e.status, BN_E_INVALID); /* something was missing */
		}
	}
	post(c, "server.inf", "");
	expect(s, c, BN_E_METHOD, "server.info");
	close_stage(s);
}

/* --- results keep to the schema ------------------------------------------------------------- */

static const char *type_word(struct bn_value v)
{
	switch (v.type) {
	case BN_TYPE_STR:
		return "str";
	case BN_TYPE_INT:
		return "int";
	case BN_TYPE_FLOAT:
		return "num";
	case BN_TYPE_BOOL:
		return "bool";
	case BN_TYPE_BIN:
		return "bin";
	case BN_TYPE_MAP:
		return "map";
	case BN_TYPE_ARRAY:
		return "[";
	default:
		return "?";
	}
}

static void check_value(const struct bn_result_field *f, struct bn_value v)
{
	bool optional = strchr(f->type, '?') != NULL;
	const char *is = type_word(v);

	if (v.type == BN_TYPE_NONE) {
		if (!optional) {
			fail_msg("%s is missing", f->path);
		}
		return;
	}
	if (strstr(f->type, is) == NULL && !(v.type == BN_TYPE_MAP && f->type[0] == '{') &&
	    !(v.type == BN_TYPE_INT && strstr(f->type, "num") != NULL)) {
		fail_msg("%s is %s, not %s", f->path, is, f->type);
	}
}

/* Walks a path such as "methods[].params[].name"; every element of an array is looked at. Few
 * levels, from a table of ours. */
static void check_path(const struct bn_result_field *f, struct bn_value v, const char *path)
{
	const char *end = path + strcspn(path, ".[");
	char key[64];

	snprintf(key, sizeof(key), "%.*s", (int)(end - path), path);
	v = bn_value_get(v, key);
	if (*end == '\0') {
		check_value(f, v);
	} else if (strcmp(end, "[]") == 0) {
		assert_int_equal(v.type, BN_TYPE_ARRAY);
		if (v.n > 0) {
			check_value(f, bn_value_at(v, 0));
		}
	} else if (*end == '.') {
		if (v.type != BN_TYPE_NONE) {
			check_path(f, v, end + 1);
		} else if (strchr(f->type, '?') == NULL) {
			fail_msg("%s is missing", f->path);
		}
	} else {
		struct bn_iter it = bn_iter_begin(v);
		struct bn_value element;

		while (bn_iter_next(&it, NULL, &element)) {
			check_path(f, element, end + 3);
		}
	}
}

static void check_result(enum bn_method method, struct bn_value result)
{
	for (const struct bn_result_field *f = bn_method_info(method)->result; f->path != NULL;
	     f++) {
		check_path(f, result, f->path);
	}
}

static void methods_answer_what_the_schema_promises(void **state)
{
	struct stage *s = open_stage(BN_MAY_ALL);
	struct client *c = &s->client[0];

	(void)state;
	for (int warm = 0; warm < 2; warm++) {
		post(c, "server.info", "");
		check_result(BN_METHOD_SERVER_INFO, result_of(s, c));
		post(c, "server.health", "");
		check_result(BN_METHOD_SERVER_HEALTH, result_of(s, c));
		post(c, "server.status", "");
		check_result(BN_METHOD_SERVER_STATUS, result_of(s, c));
		post(c, "models.list", "");
		check_result(BN_METHOD_MODELS_LIST, result_of(s, c));
		post(c, "models.ps", "");
		check_result(BN_METHOD_MODELS_PS, result_of(s, c));
		post(c, "models.show", "s", "model", "ann");
		check_result(BN_METHOD_MODELS_SHOW, result_of(s, c));
		post(c, "models.load", "sb", "model", "ann", "dry_run", 1);
		check_result(BN_METHOD_MODELS_LOAD, result_of(s, c));
		post(c, "models.load", "s", "model", "ann");
		check_result(BN_METHOD_MODELS_LOAD, result_of(s, c));
	}
	post(c, "completions", "ssii", "model", "ann", "prompt", "hi", "max_tokens", 4, "logprobs",
	     2);
	check_result(BN_METHOD_COMPLETIONS, result_of(s, c));
	post(c, "tokenize", "ssb", "model", "ann", "content", "hi you", "with_pieces", 1);
	check_result(BN_METHOD_TOKENIZE, result_of(s, c));
	post(c, "models.unload", "s", "model", "ann");
	check_result(BN_METHOD_MODELS_UNLOAD, result_of(s, c));
	post(c, "cancel", "b", "all", 1);
	check_result(BN_METHOD_CANCEL, result_of(s, c));
	close_stage(s);
}

static void methods_tell_versions_and_readiness(void **state)
{
	struct stage *s = open_stage(BN_MAY_ALL);
	struct client *c = &s->client[0];
	struct bn_value v;

	(void)state;
	post(c, "server.info", "");
	v = result_of(s, c);
	assert_true(bn_text_is(bn_value_text(bn_value_get(v, "version")), "1.2.3"));
	bn_enter_loop();
	bn_methods_set_ready(s->methods, false, "the reason");
	post(c, "server.health", "");
	v = result_of(s, c);
	assert_false(bn_value_bool(bn_value_get(v, "ready"), true));
	assert_true(bn_text_is(bn_value_text(bn_value_get(v, "reason")), "the reason"));
	close_stage(s);
}

/* --- cancel, notifications, the end --------------------------------------------------------- */

static uint32_t running(struct stage *s)
{
	bn_enter_loop();
	return bn_requests_count(s->rig.requests).running +
	       bn_requests_count(s->rig.requests).waiting;
}

static bool is_started(void *who)
{
	return running(who) == 1;
}

static void methods_cancel_own_requests_and_others_only_for_admins(void **state)
{
	(void)state;
	for (int admin = 0; admin < 2; admin++) {
		struct stage *s = open_stage(admin ? BN_MAY_ALL : BN_MAY_ALL & ~BN_MAY_ADMIN);
		struct client *c = &s->client[0];
		struct client *other = &s->client[1];
		struct bn_value v;

		post(c, "completions", "sssib", "model", "ann", "prompt", "x", "id", "mine",
		     "max_tokens", 4000, "ignore_eos", 1);
		rig_until(&s->rig, is_started, s);
		post(other, "cancel", "s", "id", "mine");
		v = bn_value_get(result_of(s, other), "cancelled");
		assert_int_equal(v.n, admin);
		if (!admin) {
			assert_int_equal(running(s), 1);
			post(other, "cancel", "b", "all", 1);
			assert_int_equal(bn_value_get(result_of(s, other), "cancelled").n, 0);
			notify(c, "cancel", "s", "id", "mine");
		}
		expect(s, c, BN_E_CANCELLED, "cancelled");
		post(c, "cancel", "");
		expect(s, c, BN_E_INVALID, "id");
		close_stage(s);
	}
}

static void methods_ignore_notifications_but_cancel(void **state)
{
	struct stage *s = open_stage(BN_MAY_ALL);
	struct client *c = &s->client[0];

	(void)state;
	notify(c, "nvim_set_client_info", "s", "name", "x");
	notify(c, "completions", "ss", "model", "ann", "prompt", "x");
	notify(c, "cancel", "s", "nonsense", "x");
	post(c, "server.health", "");
	result_of(s, c);
	assert_int_equal(running(s), 0);
	close_stage(s);
}

static bool is_quiet(void *who)
{
	struct stage *s = who;

	bn_enter_loop();
	return running(s) == 0 && bn_budget_used_by_kind(s->rig.budget, BN_BUDGET_KV) == 0 &&
	       bn_registry_waiting(s->rig.registry) == 0 &&
	       bn_connections_count(s->connections) == 1;
}

static void methods_stop_the_work_of_a_client_that_hangs_up(void **state)
{
	static const char *const ways[] = { "completions", "tokenize", "models.load",
					    "models.unload" };

	(void)state;
	for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]); k++) {
		for (uint32_t wait = 0; wait < 20; wait += 5) {
			struct stage *s = open_stage(BN_MAY_ALL);
			struct client *c = &s->client[0];

			if (k == 0) {
				post(c, ways[k], "sssi", "model", "ann", "prompt", "x", "id", "a",
				     "max_tokens", 4000);
			} else if (k == 1) {
				post(c, ways[k], "ss", "model", "ann", "content", "hello");
			} else {
				if (k == 3) {
					post(c, "models.load", "s", "model", "ann");
					result_of(s, c);
				}
				post(c, ways[k], "s", "model", "ann");
			}
			rig_for(&s->rig, wait);
			shutdown(c->fd, SHUT_RDWR);
			rig_until(&s->rig, is_quiet, s);
			close_stage(s);
		}
	}
}

static void methods_send_events_before_the_response(void **state)
{
	struct stage *s = open_stage(BN_MAY_ALL);
	struct client *c = &s->client[0];

	(void)state;
	post(c, "completions", "sssibb", "model", "ann", "prompt", "x", "id", "a", "max_tokens", 30,
	     "ignore_eos", 1, "stream", 1);
	result_of(s, c);
	assert_true(c->events >= 10);
	c->events = 0;
	rig_for(&s->rig, 30);
	take(c);
	assert_int_equal(c->events, 0);
	close_stage(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(methods_ask_for_the_right_each_needs),
		cmocka_unit_test(methods_of_the_schema_are_all_answered),
		cmocka_unit_test(methods_answer_what_the_schema_promises),
		cmocka_unit_test(methods_tell_versions_and_readiness),
		cmocka_unit_test(methods_cancel_own_requests_and_others_only_for_admins),
		cmocka_unit_test(methods_ignore_notifications_but_cancel),
		cmocka_unit_test(methods_stop_the_work_of_a_client_that_hangs_up),
		cmocka_unit_test(methods_send_events_before_the_response),
	};

	signal(SIGPIPE, SIG_IGN); /* as main does: clients hang up */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
