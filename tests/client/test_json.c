/* client/json: a received value as JSON text. */
#include "client/json.h"

#include "proto/pack.h"
#include "proto/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_type_has_its_json_form(void **state)
{
	const uint32_t ids[] = { 1, 4000000000u };
	const float logs[] = { -0.5f };
	struct bn_client_value v = { { 0 } };
	struct bn_value value;
	struct bn_pack p;
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	(void)state;
	bn_pack_init(&p);
	bn_pack_map(&p, NULL);
	bn_pack_nil(&p, "nil");
	bn_pack_bool(&p, "yes", true);
	bn_pack_int(&p, "int", -5);
	bn_pack_num(&p, "num", 0.25);
	bn_pack_str(&p, "str", "a \"b\" \n é");
	bn_pack_u32s(&p, "tokens", ids, 2);
	bn_pack_f32s(&p, "logprobs", logs, 1);
	bn_pack_bin(&p, "blob", "\x00\xff!", 3);
	bn_pack_array(&p, "list");
	bn_pack_map(&p, NULL);
	bn_pack_end(&p);
	bn_pack_bin(&p, NULL, "ab", 2);
	bn_pack_end(&p);
	bn_pack_end(&p);
	value = bn_value_read(p.data, p.used);
	memcpy(&v, &value, sizeof(value));
	assert_true(bn_json_print(to, v, true));
	fclose(to);
	assert_string_equal(text,
			    "{\"nil\":null,\"yes\":true,\"int\":-5,\"num\":0.25,"
			    "\"str\":\"a \\\"b\\\" \\n é\",\"tokens\":[1,4000000000],"
			    "\"logprobs\":[-0.5],\"blob\":\"AP8h\",\"list\":[{},\"YWI=\"]}\n");
	free(text);
	bn_pack_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_has_its_json_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
