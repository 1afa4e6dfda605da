/* Headers that lie, in every field; shards and their index. */
#include "engine/safetensors.h"

#include "tests/engine/hf_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A file of this header and so many bytes of data; `length` 0: the header's own. */
static enum bn_status parse(const char *header, uint64_t length, uint64_t data,
			    struct bn_error *err)
{
	const size_t n = strlen(header);
	unsigned char *bytes = malloc(8 + n);
	struct bn_safetensors *st = NULL;
	enum bn_status status;

	length = length == 0 ? n : length;
	for (int i = 0; i < 8; i++) {
		bytes[i] = (unsigned char)(length >> (8 * i));
	}
	memcpy(bytes + 8, header, n);
	status = bn_safetensors_parse(&st, bytes, 8 + n, 8 + n + data, err);
	if (status == BN_OK) {
		assert_true(bn_safetensors_count(st) >= 1);
	}
	bn_safetensors_free(st);
	free(bytes);
	return status;
}

#define T(dtype, shape, offsets) \
	"{\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": " offsets "}"

static void safetensors_accepts_sound_headers(void **state)
{
	struct bn_error err = { 0 };

	(void)state;
	hf_expect(parse("{\"a\": " T("F32", "[2]", "[0, 8]") "}", 0, 8, &err), &err, BN_OK, "");
	hf_expect(parse("{\"a\": " T("BF16", "[]", "[0, 2]") "}   ", 0, 2, &err), &err, BN_OK, "");
	hf_expect(parse("{\"b\": " T("U8", "[3]", "[2, 5]") ", \"a\": " T(
				"F16", "[1]", "[0, 2]") ", \"__metadata__\": {\"format\": \"pt\"}}",
			0, 5, &err),
		  &err, BN_OK, "");
	hf_expect(parse("{\"a\": " T("F32", "[0]", "[0, 0]") ", \"b\": " T("I64", "[1]",
									   "[0, 8]") "}",
			0, 8, &err),
		  &err, BN_OK, "");
}

static void safetensors_refuses_every_lie_with_its_name(void **state)
{
	static const struct {
		const char *header;
		uint64_t length, data;
		const char *words;
	} bad[] = {
		{ "{}", 0, 0, "no tensor" },
		{ "{}", 1, 0, "header claims 1" },
		{ "{}", 3, 0, "header claims 3" },
		{ "{}", UINT64_MAX, 0, "header claims" },
		{ "{}", UINT64_C(1) << 63, 0, "header claims" },
		{ "{}", 100000001, UINT64_C(1) << 40, "header claims 100000001" },
		{ "{}", 100, 1000, "not all there" },
		{ " {}", 0, 0, "does not begin with '{'" },
		{ "PK\x03\x04", 0, 0, "does not begin with '{'" },
		{ "{\"a\": 1}", 0, 0, "'a': the entry is not an object" },
		{ "{\"a\": {}}", 0, 0, "'a': 'dtype' is absent" },
		{ "{\"\": " T("F32", "[2]", "[0, 8]") "}", 0, 8, "name is empty" },
		{ "{\"a\\nb\": " T("F32", "[2]", "[0, 8]") "}", 0, 8, "control" },
		{ "{\"a\": " T("F31", "[2]", "[0, 8]") "}", 0, 8, "'F31' is not known" },
		{ "{\"a\": " T("F32", "2", "[0, 8]") "}", 0, 8, "'shape' is not an array" },
		{ "{\"a\": " T("F32", "[-2]", "[0, 8]") "}", 0, 8, "dimension 0" },
		{ "{\"a\": " T("F32", "[2.0]", "[0, 8]") "}", 0, 8, "dimension 0" },
		{ "{\"a\": " T("F32", "[1, \"2\"]", "[0, 8]") "}", 0, 8, "dimension 1" },
		{ "{\"a\": " T("F32", "[1,1,1,1,1,1,1,1,2]", "[0, 8]") "}", 0, 8, "9 dimensions" },
		{ "{\"a\": " T("F32", "[4294967296, 4294967296]", "[0, 0]") "}", 0, 0,
		  "passes 2^63" },
		{ "{\"a\": " T("F32", "[4611686018427387904]", "[0, 0]") "}", 0, 0, "do not take" },
		{ "{\"a\": " T("F32", "[2]", "[0]") "}", 0, 8, "'data_offsets' is not" },
		{ "{\"a\": " T("F32", "[2]", "[0, 8, 9]") "}", 0, 8, "'data_offsets' is not" },
		{ "{\"a\": " T("F32", "[2]", "{}") "}", 0, 8, "'data_offsets' is not" },
		{ "{\"a\": " T("F32", "[2]", "[8, 0]") "}", 0, 8, "[8, 0]" },
		{ "{\"a\": " T("F32", "[2]", "[-8, 0]") "}", 0, 8, "[-8, 0]" },
		{ "{\"a\": " T("F32", "[2]", "[0, 9]") "}", 0, 8, "[0, 9]" },
		{ "{\"a\": " T("F32", "[2]", "[0, 7]") "}", 0, 8, "do not take the 7" },
		{ "{\"a\": " T("F32", "[2]", "[0, 9223372036854775807]") "}", 0, 8, "[0, 9223" },
		{ "{\"a\": " T("F32", "[1]", "[4, 8]") "}", 0, 8, "'a' begins at byte 4" },
		{ "{\"a\": " T("F32", "[1]", "[0, 4]") "}", 0, 8, "4 bytes behind the last" },
		{ "{\"a\": " T("F32", "[1]", "[0, 4]") ", \"b\": " T("F32", "[1]", "[2, 6]") "}", 0,
		  6, "before byte 4" },
		{ "{\"a\": " T("F32", "[1]", "[0, 4]") ", \"b\": " T("F32", "[1]", "[0, 4]") "}", 0,
		  4, "before byte 4" },
		{ "{\"a\": " T("F32", "[1]", "[0, 4]") ", \"a\": " T("F32", "[1]", "[4, 8]") "}", 0,
		  8, "duplicate" },
		{ "{\"__metadata__\": 7}", 0, 0, "'__metadata__'" },
		{ "{\"a\": {\"dtype\": [[[[[[[[1]]]]]]]]}}", 0, 0, "deeper than 8" },
	};
	const size_t before = hf_peak_mib();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct bn_error err = { 0 };
		const enum bn_status status =
			parse(bad[i].header, bad[i].length, bad[i].data, &err);

		hf_expect(status, &err,
			  strcmp(bad[i].words, "'F31' is not known") == 0 ? BN_E_NOT_SUPPORTED
									  : BN_E_FORMAT,
			  bad[i].words);
	}
	assert_true(hf_peak_mib() - before < 64);
}

static void safetensors_survives_every_cut_and_flipped_byte(void **state)
{
	static const char header[] = "{\"a\": " T("F32", "[1, 2]", "[0, 8]") "}";
	unsigned char bytes[8 + sizeof(header)] = { sizeof(header) - 1 };
	struct bn_safetensors *st;

	(void)state;
	memcpy(bytes + 8, header, sizeof(header) - 1);
	for (size_t n = 0; n < sizeof(header) + 7; n++) {
		assert_int_not_equal(bn_safetensors_parse(&st, bytes, n, n, NULL), BN_OK);
	}
	for (size_t i = 0; i < sizeof(header) + 7; i++) {
		for (int bit = 0; bit < 8; bit++) {
			unsigned char *copy = malloc(sizeof(header) + 7);

			memcpy(copy, bytes, sizeof(header) + 7);
			copy[i] ^= (unsigned char)(1 << bit);
			st = NULL;
			if (bn_safetensors_parse(&st, copy, sizeof(header) + 7, sizeof(header) + 15,
						 NULL) == BN_OK) {
				bn_safetensors_free(st);
			}
			free(copy);
		}
	}
}

static int open_folder(const struct hf_folder *hf)
{
	return open(hf->path, O_RDONLY | O_DIRECTORY);
}

static void safetensors_reads_one_file_and_its_tensors(void **state)
{
	const struct bn_safetensors_tensor *t;
	struct bn_safetensors *st = NULL;
	struct bn_error err = { 0 };
	struct hf_folder hf;
	unsigned char got[16];
	int fd;

	(void)state;
	hf_init(&hf);
	hf_write(&hf);
	fd = open_folder(&hf);
	hf_expect(bn_safetensors_open(&st, fd, &err), &err, BN_OK, "");
	assert_int_equal(bn_safetensors_count(st), hf.n);
	for (size_t i = 1; i < hf.n; i++) {
		assert_true(strcmp(bn_safetensors_at(st, i - 1)->name,
				   bn_safetensors_at(st, i)->name) < 0);
	}
	t = bn_safetensors_find(st, "model.norm.weight");
	assert_non_null(t);
	assert_int_equal(t->type, BN_ST_BF16);
	assert_int_equal(bn_safetensors_width(t->type), 2);
	assert_int_equal(t->elements, HF_DIM);
	assert_int_equal(bn_safetensors_read(st, t, 16, got, sizeof(got), &err), BN_OK);
	assert_memory_equal(got, hf_find(&hf, "model.norm.weight")->data + 16, sizeof(got));
	hf_expect(bn_safetensors_read(st, t, 2 * HF_DIM - 15, got, 16, &err), &err, BN_E_FORMAT,
		  "not all its own");
	hf_expect(bn_safetensors_read(st, t, UINT64_MAX, got, 16, &err), &err, BN_E_FORMAT,
		  "not all its own");
	assert_null(bn_safetensors_find(st, "model.norm.weigh"));
	assert_int_equal(bn_safetensors_unchanged(st, &err), BN_OK);
	hf_write(&hf);
	hf_expect(bn_safetensors_unchanged(st, &err), &err, BN_E_FORMAT, "model.safetensors");
	bn_safetensors_free(st);
	close(fd);
	hf_finish(&hf);
}

static void write_shards(struct hf_folder *hf, const char *index)
{
	char path[200];

	hf_write(hf);
	snprintf(path, sizeof(path), "%s/model.safetensors", hf->path);
	assert_int_equal(unlink(path), 0);
	hf_write_tensors(hf, "model-1.safetensors", 0, 1);
	hf_write_tensors(hf, "model-2.safetensors", 1, 2);
	hf_write_file(hf, "model.safetensors.index.json", index, strlen(index));
}

static void safetensors_reads_shards_and_refuses_wrong_indexes(void **state)
{
	static const struct {
		const char *index;
		enum bn_status status;
		const char *words;
	} cases[] = {
		{ "{\"weight_map\": {\"A\": \"model-1.safetensors\", \"B\": "
		  "\"model-2.safetensors\"}}",
		  BN_OK, "" },
		{ "{\"weight_map\": {\"B\": \"model-1.safetensors\"}}", BN_E_FORMAT, "'A' is in" },
		{ "{\"weight_map\": {\"A\": \"model-2.safetensors\", \"B\": "
		  "\"model-1.safetensors\"}}",
		  BN_E_FORMAT, "says" },
		{ "{\"weight_map\": {\"A\": \"model-1.safetensors\", \"B\": "
		  "\"model-2.safetensors\","
		  " \"C\": \"model-1.safetensors\"}}",
		  BN_E_FORMAT, "'C' is missing" },
		{ "{\"weight_map\": {\"A\": \"model-1.safetensors\", \"B\": "
		  "\"model-3.safetensors\"}}",
		  BN_E_IO, "model-3" },
		{ "{\"weight_map\": {\"A\": \"../model-1.safetensors\"}}", BN_E_FORMAT,
		  "same folder" },
		{ "{\"weight_map\": {\"A\": \"/etc/x.safetensors\"}}", BN_E_FORMAT, "same folder" },
		{ "{\"weight_map\": {\"A\": \"..\"}}", BN_E_FORMAT, "same folder" },
		{ "{\"weight_map\": {\"A\": \"model-1.bin\"}}", BN_E_FORMAT, "same folder" },
		{ "{\"weight_map\": {\"A\": 1}}", BN_E_FORMAT, "no string" },
		{ "{\"weight_map\": []}", BN_E_FORMAT, "weight_map" },
		{ "{}", BN_E_FORMAT, "weight_map" },
		{ "{\"weight_map\": {}}", BN_E_FORMAT, "no tensor" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bn_safetensors *st = NULL;
		struct bn_error err = { 0 };
		struct hf_folder hf;
		int fd;

		hf_init(&hf);
		strcpy(hf.tensors[0].name, "A");
		strcpy(hf.tensors[1].name, "B");
		write_shards(&hf, cases[i].index);
		fd = open_folder(&hf);
		hf_expect(bn_safetensors_open(&st, fd, &err), &err, cases[i].status,
			  cases[i].words);
		bn_safetensors_free(st);
		close(fd);
		hf_finish(&hf);
	}
}

static void safetensors_refuses_a_tensor_in_two_shards_and_empty_folders(void **state)
{
	struct bn_safetensors *st = NULL;
	struct bn_error err = { 0 };
	struct hf_folder hf;
	char path[200];
	int fd;

	(void)state;
	hf_init(&hf);
	strcpy(hf.tensors[0].name, "A");
	strcpy(hf.tensors[1].name, "A");
	write_shards(&hf, "{\"weight_map\": {\"A\": \"model-1.safetensors\","
			  " \"B\": \"model-2.safetensors\"}}");
	fd = open_folder(&hf);
	hf_expect(bn_safetensors_open(&st, fd, &err), &err, BN_E_FORMAT, "'A' is there twice");
	snprintf(path, sizeof(path), "%s/model.safetensors.index.json", hf.path);
	assert_int_equal(unlink(path), 0);
	hf_expect(bn_safetensors_open(&st, fd, &err), &err, BN_E_IO, "neither");
	hf_write_file(&hf, "pytorch_model.bin", "x", 1);
	hf_expect(bn_safetensors_open(&st, fd, &err), &err, BN_E_IO, "pickle");
	close(fd);
	hf_finish(&hf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(safetensors_accepts_sound_headers),
		cmocka_unit_test(safetensors_refuses_every_lie_with_its_name),
		cmocka_unit_test(safetensors_survives_every_cut_and_flipped_byte),
		cmocka_unit_test(safetensors_reads_one_file_and_its_tensors),
		cmocka_unit_test(safetensors_reads_shards_and_refuses_wrong_indexes),
		cmocka_unit_test(safetensors_refuses_a_tensor_in_two_shards_and_empty_folders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
