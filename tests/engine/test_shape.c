/* The published byte counts (design paper "models", 1.1), from dimensions alone. */
#include "engine/shape.h"

#include "engine/guide.h"
#include "engine/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void files_have_exactly_the_published_bytes(void **state)
{
	static const struct {
		const char *name;
		uint32_t vocab; /* of the computation, where the row has another */
		uint64_t ternary, parameters;
		uint32_t norms, tables, matrices;
		uint64_t bytes, kv_bytes;
	} rows[] = {
		{ "bitnet-b1.58-2B-4T", 0, 2084044800, 2412820480, 121, 1, 210, 1179449920, 76800 },
		{ "bitnet-b1.58-2B-4T-bf16", 0, 2084044800, 2412820480, 121, 1, 210, 1179449920,
		  76800 },
		{ "bitnet_b1_58-large", 0, 679477248, 728842752, 97, 1, 168, 269026560, 147456 },
		{ "bitnet_b1_58-3B", 0, 3221504000, 3324387840, 105, 1, 182, 1012104384, 332800 },
		{ "Llama3-8B-1.58-100B-tokens", 0, 6979321856, 8030261248, 65, 2, 224, 3847248896,
		  131072 },
		{ "Falcon3-1B-Instruct-1.58bit", 0, 1132462080, 1669408768, 37, 2, 126, 1357164480,
		  73728 },
		{ "Falcon3-3B-Instruct-1.58bit", 0, 2422210560, 3227655168, 45, 2, 154, 2216723264,
		  90112 },
		{ "Falcon3-7B-Instruct-1.58bit", 131072, 6650068992, 7455550464, 57, 2, 196,
		  3273836672, 114688 },
		{ "Falcon3-7B-Instruct-1.58bit", 131080, 6650068992, 7455550464 + 8 * 3072 * 2, 57,
		  2, 196, 3273836672 + 98304, 114688 },
		{ "Falcon3-10B-Instruct-1.58bit", 0, 9500098560, 10305653760, 81, 2, 280,
		  3986641664, 163840 },
		{ "Falcon-E-1B-Instruct", 0, 1585446912, 1719764992, 49, 2, 168, 665203968, 24576 },
		{ "Falcon-E-3B-Instruct", 0, 2919235584, 3053586432, 65, 2, 224, 998784000, 32768 },
		/* F32 norms, as ours has them; in bitnet.cpp's they are F16 */
		{ "bitnet-embedding-0.6b", 0, 440401920, 596336640, 309, 1, 196, 422680704,
		  114688 },
		{ "bitnet-embedding-270m", 0, 100270080, 268211072, 235, 1, 126, 361291200, 18432 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct bn_guide_model *m = bn_guide_find(rows[i].name);
		struct bn_shape shape;
		struct bn_kv_shape kv;
		struct bn_shape_file f;

		assert_non_null(m);
		shape = m->shape;
		shape.vocab = rows[i].vocab != 0 ? rows[i].vocab : shape.vocab;
		f = bn_shape_file(&shape);
		assert_int_equal(f.ternary, rows[i].ternary);
		assert_int_equal(f.parameters, rows[i].parameters);
		assert_int_equal(f.norms, rows[i].norms);
		assert_int_equal(f.tables, rows[i].tables);
		assert_int_equal(f.matrices, rows[i].matrices);
		assert_int_equal(f.bytes, rows[i].bytes);
		kv = (struct bn_kv_shape){ shape.layers, shape.kv_heads, shape.head_dim,
					   BN_KV_F16 };
		assert_int_equal(bn_kv_position_bytes(&kv), rows[i].kv_bytes);
	}
}

static void projections_have_the_shapes_of_their_sides(void **state)
{
	const struct bn_shape s = { .layers = 1,
				    .dim = 10,
				    .ffn = 30,
				    .heads = 6,
				    .kv_heads = 2,
				    .head_dim = 4,
				    .vocab = 7 };
	static const uint32_t want[BN_PROJ_COUNT][2] = { { 24, 10 }, { 8, 10 },  { 8, 10 },
							 { 10, 24 }, { 30, 10 }, { 30, 10 },
							 { 10, 30 } };

	(void)state;
	for (unsigned p = 0; p < BN_PROJ_COUNT; p++) {
		uint32_t rows, cols;

		bn_shape_projection(&s, (enum bn_projection)p, &rows, &cols);
		assert_int_equal(rows, want[p][0]);
		assert_int_equal(cols, want[p][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_have_exactly_the_published_bytes),
		cmocka_unit_test(projections_have_the_shapes_of_their_sides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
