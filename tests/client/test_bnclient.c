/* client/bnclient against a server made of one thread that plays a script. */
#include "client/bnclient.h"

#include "proto/pack.h"
#include "proto/value.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* What the server sends when it has read `after` bytes from its one client; then it hangs up. */
struct server {
	char folder[64];
	char path[96];
	int listener;
	pthread_t thread;
	size_t after;
	struct bn_pack say;
	size_t piece; /* bytes per send, to test chunking */
	unsigned char heard[4096];
	size_t n_heard;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listener, NULL, NULL);

	while (s->n_heard < s->after) {
		ssize_t n = recv(fd, s->heard + s->n_heard, sizeof(s->heard) - s->n_heard, 0);

		if (n <= 0) {
			break;
		}
		s->n_heard += (size_t)n;
	}
	for (size_t i = 0; i < s->say.used; i += s->piece) {
		size_t n = s->say.used - i < s->piece ? s->say.used - i : s->piece;

		if (send(fd, s->say.data + i, n, MSG_NOSIGNAL) < 0) {
			break;
		}
	}
	close(fd);
	return NULL;
}

static void server_start(struct server *s, size_t after, size_t piece)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	s->after = after;
	s->piece = piece;
	s->n_heard = 0;
	strcpy(s->folder, "/tmp/bnclient-XXXXXX");
	assert_non_null(mkdtemp(s->folder));
	snprintf(s->path, sizeof(s->path), "%s/sock", s->folder);
	strcpy(address.sun_path, s->path);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(s->listener, 4), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->listener);
	unlink(s->path);
	rmdir(s->folder);
	bn_pack_finish(&s->say);
}

static void say_delta(struct bn_pack *p, const char *text)
{
	bn_pack_array(p, NULL);
	bn_pack_int(p, NULL, 2);
	bn_pack_str(p, NULL, "stream");
	bn_pack_array(p, NULL);
	bn_pack_map(p, NULL);
	bn_pack_str(p, "event", "delta");
	bn_pack_str(p, "text", text);
	bn_pack_end(p);
	bn_pack_end(p);
	bn_pack_end(p);
}

static void say_result(struct bn_pack *p, uint32_t msgid, const char *text)
{
	bn_pack_array(p, NULL);
	bn_pack_int(p, NULL, 1);
	bn_pack_int(p, NULL, msgid);
	bn_pack_nil(p, NULL);
	bn_pack_map(p, NULL);
	bn_pack_str(p, "text", text);
	bn_pack_map(p, "usage");
	bn_pack_int(p, "prompt_tokens", 7);
	bn_pack_end(p);
	bn_pack_end(p);
	bn_pack_end(p);
}

static void say_error(struct bn_pack *p, uint32_t msgid)
{
	bn_pack_array(p, NULL);
	bn_pack_int(p, NULL, 1);
	bn_pack_int(p, NULL, msgid);
	bn_pack_array(p, NULL);
	bn_pack_int(p, NULL, 404);
	bn_pack_str(p, NULL, "no model 'x'");
	bn_pack_map(p, NULL);
	bn_pack_str(p, "kind", "model_not_found");
	bn_pack_end(p);
	bn_pack_end(p);
	bn_pack_nil(p, NULL);
	bn_pack_end(p);
}

struct heard {
	char text[64];
	unsigned answers;
	uint32_t last;
};

static void on_event(void *who, const char *name, struct bn_client_value params)
{
	struct heard *h = who;
	struct bn_client_text t = bn_client_text(bn_client_get(params, "text"));

	assert_string_equal(name, "stream");
	strncat(h->text, t.at, t.n);
}

static void on_answer(void *who, uint32_t msgid, const struct bn_client_reply *reply)
{
	struct heard *h = who;

	assert_int_equal(reply->code, 0);
	h->answers++;
	h->last = msgid;
}

static void call_gives_events_then_the_result_whatever_the_chunks(void **state)
{
	static const size_t pieces[] = { 1, 2, 7, 4096 };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct server s = { .piece = 1 };
		struct bn_client_params *p = bn_client_params_new();
		struct heard heard = { .answers = 0 };
		struct bn_client_hooks hooks = { .size = sizeof(hooks),
						 .who = &heard,
						 .event = on_event };
		struct bn_client_reply reply;
		struct bn_client_text text;
		struct bn_client *c;

		bn_pack_init(&s.say);
		say_delta(&s.say, "Once ");
		say_delta(&s.say, "upon");
		say_result(&s.say, 1, "a time");
		server_start(&s, 1, pieces[i]);
		assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
		bn_client_str(p, "model", "m");
		assert_int_equal(bn_client_call(c, "completions", p, &hooks, &reply), BN_CLIENT_OK);
		assert_string_equal(heard.text, "Once upon");
		text = bn_client_text(bn_client_get(reply.result, "text"));
		assert_int_equal(text.n, 6);
		assert_memory_equal(text.at, "a time", 6);
		assert_int_equal(
			bn_client_get_int(bn_client_get(reply.result, "usage.prompt_tokens"), 0),
			7);
		assert_int_equal(bn_client_type(bn_client_get(reply.result, "nothing")),
				 BN_CLIENT_NONE);
		bn_client_close(c);
		bn_client_params_free(p);
		server_stop(&s);
	}
}

static void request_has_the_shape_of_the_protocol(void **state)
{
	struct server s = { .piece = 1 };
	struct bn_client_params *p = bn_client_params_new();
	struct bn_client_reply reply;
	struct bn_client *c;
	struct bn_value v, map;

	(void)state;
	bn_pack_init(&s.say);
	say_result(&s.say, 1, "");
	server_start(&s, 1, 64);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	bn_client_int(p, "a", 1);
	bn_client_array(p, "l");
	bn_client_str(p, NULL, "x");
	bn_client_end(p);
	assert_int_equal(bn_client_call(c, "ping", p, NULL, &reply), BN_CLIENT_OK);
	bn_client_close(c);
	bn_client_params_free(p);
	server_stop(&s);
	/* [0, 1, "ping", [{"a": 1, "l": ["x"]}]] and nothing else */
	v = bn_value_read(s.heard, s.n_heard);
	assert_ptr_equal(bn_value_after(&v), s.heard + s.n_heard);
	assert_int_equal(v.n, 4);
	assert_int_equal(bn_value_int(bn_value_at(v, 0), -1), 0);
	assert_int_equal(bn_value_int(bn_value_at(v, 1), -1), 1);
	assert_true(bn_text_is(bn_value_text(bn_value_at(v, 2)), "ping"));
	assert_int_equal(bn_value_at(v, 3).n, 1);
	map = bn_value_at(bn_value_at(v, 3), 0);
	assert_int_equal(map.n, 2);
	assert_int_equal(bn_value_int(bn_value_get(map, "a"), 0), 1);
	assert_true(bn_text_is(bn_value_text(bn_value_at(bn_value_get(map, "l"), 0)), "x"));
}

static void refusal_carries_code_sentence_and_facts(void **state)
{
	struct server s = { .piece = 1 };
	struct bn_client_reply reply;
	struct bn_client *c;
	struct bn_client_text kind;

	(void)state;
	bn_pack_init(&s.say);
	say_error(&s.say, 1);
	server_start(&s, 1, 64);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	assert_int_equal(bn_client_call(c, "models.show", NULL, NULL, &reply), BN_CLIENT_REFUSED);
	assert_int_equal(reply.code, 404);
	assert_string_equal(bn_client_error(c), "no model 'x'");
	kind = bn_client_text(bn_client_get(reply.data, "kind"));
	assert_memory_equal(kind.at, "model_not_found", kind.n);
	bn_client_close(c);
	server_stop(&s);
}

static void vanished_daemon_is_an_error_and_stays_one(void **state)
{
	struct server s = { .piece = 1 };
	struct bn_client_reply reply;
	struct bn_client *c;

	(void)state;
	bn_pack_init(&s.say);
	say_delta(&s.say, "half");
	server_start(&s, 1, 64);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	assert_int_equal(bn_client_call(c, "completions", NULL, NULL, &reply),
			 BN_CLIENT_DISCONNECTED);
	assert_string_equal(bn_client_error(c), "bnd closed the connection");
	assert_int_equal(bn_client_call(c, "completions", NULL, NULL, &reply),
			 BN_CLIENT_DISCONNECTED);
	bn_client_close(c);
	server_stop(&s);
}

static void garbage_from_the_daemon_is_refused(void **state)
{
	static const unsigned char bomb[] = {
		0x94, 0x01, 0x01, 0xc0, 0xdd, 0xff, 0xff, 0xff, 0xff
	};
	struct server s = { .piece = 1 };
	struct bn_client_reply reply;
	struct bn_client *c;

	(void)state;
	bn_pack_init(&s.say);
	s.say.data = malloc(sizeof(bomb));
	memcpy(s.say.data, bomb, sizeof(bomb));
	s.say.used = s.say.capacity = sizeof(bomb);
	server_start(&s, 1, 3);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	assert_int_equal(bn_client_call(c, "completions", NULL, NULL, &reply), BN_CLIENT_PROTOCOL);
	assert_true(bn_client_error(c)[0] != '\0');
	bn_client_close(c);
	server_stop(&s);
}

static void dispatch_answers_calls_out_of_order(void **state)
{
	struct server s = { .piece = 1 };
	struct heard heard = { .answers = 0 };
	struct bn_client_hooks hooks = { .size = sizeof(hooks),
					 .who = &heard,
					 .answer = on_answer };
	struct bn_client *c;
	uint32_t first, second;

	(void)state;
	bn_pack_init(&s.say);
	say_result(&s.say, 2, "b");
	say_result(&s.say, 1, "a");
	server_start(&s, 1, 5);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	assert_int_equal(bn_client_start(c, "a", NULL, &first), BN_CLIENT_OK);
	assert_int_equal(bn_client_start(c, "b", NULL, &second), BN_CLIENT_OK);
	assert_int_not_equal(first, second);
	while (heard.answers < 2) {
		struct pollfd wait = { .fd = bn_client_fd(c), .events = bn_client_events(c) };

		assert_true(poll(&wait, 1, 5000) > 0);
		assert_int_equal(bn_client_dispatch(c, &hooks), BN_CLIENT_OK);
	}
	assert_int_equal(heard.last, first);
	bn_client_close(c);
	server_stop(&s);
}

static bool give_up(void *who)
{
	return ++*(int *)who < 3;
}

static void waiting_can_be_given_up(void **state)
{
	struct server s = { .piece = 1 };
	int asked = 0;
	struct bn_client_hooks hooks = { .size = sizeof(hooks),
					 .who = &asked,
					 .keep_waiting = give_up };
	struct bn_client_reply reply;
	struct bn_client *c;

	(void)state;
	bn_pack_init(&s.say);
	server_start(&s, 4096, 64);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	assert_int_equal(bn_client_call(c, "completions", NULL, &hooks, &reply),
			 BN_CLIENT_GIVEN_UP);
	assert_int_equal(asked, 3);
	bn_client_close(c);
	server_stop(&s);
}

static void missing_socket_says_where_it_looked(void **state)
{
	struct bn_client *c;
	char longer[256];

	(void)state;
	assert_int_equal(bn_client_open(&c, "/tmp/there is no bnd here"), BN_CLIENT_UNREACHABLE);
	assert_non_null(strstr(bn_client_error(c), "/tmp/there is no bnd here"));
	bn_client_close(c);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(bn_client_open(&c, longer), BN_CLIENT_UNREACHABLE);
	assert_non_null(strstr(bn_client_error(c), "longer than"));
	bn_client_close(c);
}

static void unended_containers_are_refused_not_sent(void **state)
{
	struct server s = { .piece = 1 };
	struct bn_client_params *p = bn_client_params_new();
	struct bn_client_reply reply;
	struct bn_client *c;

	(void)state;
	bn_pack_init(&s.say);
	server_start(&s, 1, 64);
	assert_int_equal(bn_client_open(&c, s.path), BN_CLIENT_OK);
	bn_client_array(p, "stop");
	assert_int_equal(bn_client_call(c, "completions", p, NULL, &reply), BN_CLIENT_PROTOCOL);
	bn_client_close(c);
	bn_client_params_free(p);
	server_stop(&s);
	assert_int_equal(s.n_heard, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call_gives_events_then_the_result_whatever_the_chunks),
		cmocka_unit_test(request_has_the_shape_of_the_protocol),
		cmocka_unit_test(refusal_carries_code_sentence_and_facts),
		cmocka_unit_test(vanished_daemon_is_an_error_and_stays_one),
		cmocka_unit_test(garbage_from_the_daemon_is_refused),
		cmocka_unit_test(dispatch_answers_calls_out_of_order),
		cmocka_unit_test(waiting_can_be_given_up),
		cmocka_unit_test(missing_socket_says_where_it_looked),
		cmocka_unit_test(unended_containers_are_refused_not_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
