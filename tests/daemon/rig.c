#include "tests/daemon/rig.h"

#include "proto/value.h"
#include "tests/tiny.h"

#include "kernels/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 100000 };

static void on_alarm(uv_timer_t *t)
{
	(void)t; /* only makes the loop turn */
}

void rig_up(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	bn_enter_loop();
	assert_int_equal(uv_loop_init(&r->loop), 0);
	assert_int_equal(uv_timer_init(&r->loop, &r->alarm), 0);
	strcpy(r->folder, "/tmp/bn-test-XXXXXX");
	assert_non_null(mkdtemp(r->folder));
	r->config.models = r->models;
}

static void count_gone(void *who)
{
	((struct rig *)who)->gone++;
}

static bool first_gone(void *who)
{
	return ((struct rig *)who)->gone == 1;
}

static bool second_gone(void *who)
{
	return ((struct rig *)who)->gone == 2;
}

void rig_down(struct rig *r)
{
	bn_enter_loop();
	r->gone = r->requests != NULL ? 0 : 1;
	if (r->requests != NULL) {
		bn_requests_cancel_all(r->requests, BN_E_DRAINING);
		bn_requests_close(r->requests, count_gone, r);
		rig_until(r, first_gone, r);
	}
	if (r->registry != NULL) {
		bn_registry_close(r->registry, count_gone, r);
		rig_until(r, second_gone, r);
	}
	bn_scheduler_stop(r->scheduler);
	uv_close((uv_handle_t *)&r->alarm, NULL);
	uv_run(&r->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r->loop), 0);
	bn_budget_free(r->budget); /* asserts that it reads zero */
	for (uint32_t i = 0; i < r->config.n_models; i++) {
		unlink(r->paths[i]);
	}
	rmdir(r->folder);
}

const char *rig_model(struct rig *r, const char *name, uint64_t seed, uint32_t context)
{
	uint32_t i = r->config.n_models++;
	struct bn_tiny t;
	struct bn_error err;

	assert_true(i < RIG_MODELS_MAX);
	bn_tiny_default(&t);
	t.seed = seed;
	t.context = context;
	snprintf(r->paths[i], sizeof(r->paths[i]), "%s/%s.gguf", r->folder, name);
	if (bn_tiny_write(&t, r->paths[i], &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	r->models[i] = (struct bn_config_model){ .name = name,
						 .path = r->paths[i],
						 .weight = 1,
						 .keep_alive_ms = BN_CONFIG_KEEP_FOREVER,
						 .template = "plain",
						 .max_tokens = 16 };
	return r->paths[i];
}

struct bn_model *rig_load(const char *path)
{
	struct bn_model_options options = { .cpu = bn_cpu_features(), .chat_template = "plain" };
	struct bn_model_plan *plan = NULL;
	struct bn_model *model = NULL;
	struct bn_error err;

	bn_enter_helper();
	if (bn_model_open(&plan, path, &options, &err) != BN_OK ||
	    bn_model_load(&model, plan, NULL, &err) != BN_OK) {
		fail_msg("%s", err.text);
	}
	bn_model_plan_free(plan);
	return model;
}

static void on_step(void *who, const struct bn_step_event *e)
{
	bn_enter_loop();
	bn_requests_on_step(((struct rig *)who)->requests, e);
}

void rig_scheduler(struct rig *r, uint32_t lanes, uint32_t max_batch, uint32_t chunk,
		   bn_step_fn on_event, void *who)
{
	struct bn_scheduler_config c = { .lanes = lanes,
					 .step_target_ns = 80000000,
					 .max_batch = max_batch,
					 .prefill_chunk = chunk,
					 .on_event = on_event != NULL ? on_event : on_step,
					 .who = on_event != NULL ? who : r };

	bn_enter_loop();
	assert_int_equal(bn_scheduler_start(&r->scheduler, &r->loop, &c, NULL), BN_OK);
}

void rig_registry(struct rig *r, uint64_t limit, uint32_t patience_ms, uint32_t residency_ms)
{
	struct bn_registry_config c = { .loop = &r->loop,
					.cpu = bn_cpu_features(),
					.patience_ms = patience_ms,
					.residency_ms = residency_ms };

	bn_enter_loop();
	c.forward = bn_scheduler_forward_config(r->scheduler);
	assert_int_equal(bn_budget_new(&r->budget, limit, NULL), BN_OK);
	c.budget = r->budget;
	assert_int_equal(bn_registry_new(&r->registry, &c, NULL), BN_OK);
	assert_int_equal(bn_registry_apply(r->registry, &r->config, false, NULL), BN_OK);
}

void rig_requests(struct rig *r, const struct bn_requests_limits *limits)
{
	struct bn_requests_config c = { .loop = &r->loop,
					.registry = r->registry,
					.scheduler = r->scheduler,
					.limits = *limits };

	bn_enter_loop();
	assert_int_equal(bn_requests_new(&r->requests, &c, NULL), BN_OK);
}

uint64_t rig_resident(struct rig *r, const char *path, uint64_t *load_bytes)
{
	struct bn_forward_config forward;
	struct bn_model *model = rig_load(path);
	uint64_t bytes;

	bn_enter_loop();
	forward = bn_scheduler_forward_config(r->scheduler);
	bytes = model->info.weights_bytes + bn_forward_bytes(&model->info, &forward);
	*load_bytes = model->info.load_bytes;
	bn_enter_helper();
	bn_model_free(model);
	return bytes;
}

void rig_until(struct rig *r, bool (*done)(void *who), void *who)
{
	uint64_t until = uv_hrtime() + PATIENCE_MS * UINT64_C(1000000);

	uv_timer_start(&r->alarm, on_alarm, 5, 5);
	while (!done(who)) {
		if (uv_hrtime() > until) {
			fail_msg("did not happen within %d ms", PATIENCE_MS);
		}
		uv_run(&r->loop, UV_RUN_ONCE);
	}
	uv_timer_stop(&r->alarm);
}

void rig_for(struct rig *r, uint32_t ms)
{
	uint64_t until = uv_hrtime() + ms * UINT64_C(1000000);

	uv_timer_start(&r->alarm, on_alarm, 1, 1);
	while (uv_hrtime() < until) {
		uv_run(&r->loop, UV_RUN_ONCE);
	}
	uv_timer_stop(&r->alarm);
}

struct bn_entry *rig_entry(struct rig *r, const char *name)
{
	struct bn_entry *e;

	bn_enter_loop();
	assert_int_equal(bn_registry_find(r->registry, bn_text_of(name), &e, NULL), BN_OK);
	return e;
}
