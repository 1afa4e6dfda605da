/*
 * What is where, below the folder of one commit:
 *
 *   NAME.gguf              the result, for bnd
 *   NAME.gguf.pull.json    where it came from (client/record.h)
 *   NAME-COMMIT.download/  what is converted, on its way; removed afterwards
 *
 * The hub's files of a checkpoint never lie beside the result: whoever gives a folder of theirs
 * must not lose a config.json of their own when we clean up.
 */
#include "client/pull.h"

#include "client/download.h"
#include "client/gather.h"
#include "client/hub.h"
#include "client/json.h"
#include "client/meter.h"
#include "client/record.h"
#include "client/store.h"
#include "client/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME_BYTES = 256, COMMIT_DIGITS = 12, ARGS_MAX = 16 };

struct pull {
	struct bn_ctl *ctl;
	const struct bn_pull_options *o;
	struct bn_download *d;
	struct bn_hub_repo repo;
	struct bn_hub_choice choice;
	struct bn_store store;
	bool convert;
	char tool[BN_STORE_PATH_BYTES];
	char folder[NAME_BYTES]; /* of the result, below the store; "": the store itself */
	char result[NAME_BYTES];
	char source[NAME_BYTES]; /* folder of what is converted */
	int result_fd, source_fd;
	struct bn_record wish;
	struct bn_meter meter;
};

/* ---- hooks -------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool on_progress(void *who, enum bn_download_phase phase, uint64_t bytes)
{
	struct pull *p = who;

	bn_meter_show(&p->meter, phase == BN_DOWNLOAD_FETCH ? "fetching" : "checking", bytes,
		      now_ms());
	return bn_ctl_interrupts() == 0;
}

static void on_notice(void *who, const char *text)
{
	struct pull *p = who;

	if (!p->ctl->quiet) {
		bn_ctl_complain(p->ctl, "%s", text);
	}
}

static bool on_digest(void *who, uint64_t bytes)
{
	return on_progress(who, BN_DOWNLOAD_CHECK, bytes);
}

static bool interrupted(void *who)
{
	(void)who;
	return bn_ctl_interrupts() > 0;
}

/* ---- what there is ------------------------------------------------------------------------ */

static enum bn_status ask_hub(struct pull *p, struct bn_error *err)
{
	char url[BN_HUB_URL_BYTES];
	char *text;
	size_t n;
	enum bn_status status;

	bn_hub_url_about(url, &p->o->name);
	status = bn_download_text(p->d, url, BN_HUB_ANSWER_MAX, &text, &n, err);
	if (status != BN_OK) {
		return status;
	}
	status = bn_hub_repo_parse(&p->repo, text, n, err);
	free(text);
	if (status == BN_OK) {
		status = bn_hub_choose(&p->choice, &p->repo, p->o->name.file, err);
	}
	return status;
}

/* "bnctl pull org/name:file" for each, with sizes. */
static enum bn_status fail_undecided(struct pull *p, struct bn_error *err)
{
	static const char *const heads[] = { "FILE", ">SIZE" };
	struct bn_table b;
	char size[32];

	bn_table_init(&b, 2, heads);
	for (size_t i = 0; i < p->choice.n && bn_table_row(&b); i++) {
		const struct bn_hub_file *f = p->choice.files[i];

		bn_table_cell(&b, 0, BN_COLOUR_PLAIN, "%s", f->path);
		bn_table_cell(&b, 1, BN_COLOUR_PLAIN, "%s",
			      f->size == BN_HUB_SIZE_UNKNOWN
				      ? "?"
				      : bn_term_bytes(size, sizeof(size), (int64_t)f->size));
	}
	bn_table_print(&b, &p->ctl->err);
	bn_table_finish(&b);
	return bn_fail(err, BN_E_NOT_FOUND,
		       "there are %zu GGUF files; say which: `bnctl pull %s:FILE`, with one of the "
		       "above",
		       p->choice.n, p->o->name.repo);
}

/* ---- names -------------------------------------------------------------------------------- */

/* Names of the result and of the folder for what becomes it. */
static void name_result(struct pull *p)
{
	const struct bn_pull_options *o = p->o;
	const bool gguf = p->choice.kind == BN_HUB_GGUF;
	const char *path = gguf ? p->choice.files[0]->path : p->o->name.repo;
	const char *base = bn_gather_base(path);
	int n = (int)strlen(base) - (gguf ? (int)strlen(".gguf") : 0);

	if (p->convert) {
		/* With the commit: what is left of another one must not be converted with this. */
		snprintf(p->source, sizeof(p->source), "%s-%.*s.download",
			 bn_gather_base(o->name.repo), COMMIT_DIGITS, p->repo.commit);
		snprintf(p->result, sizeof(p->result), "%.*s%s%s%s%s.gguf", n, base,
			 o->kernel != NULL ? "-" : "", o->kernel != NULL ? o->kernel : "",
			 o->embedding != NULL ? "-" : "", o->embedding != NULL ? o->embedding : "");
	} else {
		snprintf(p->result, sizeof(p->result), "%s", base);
		if (base != path) {
			snprintf(p->folder, sizeof(p->folder), "%.*s", (int)(base - path - 1),
				 path);
		}
	}
	snprintf(p->wish.repo, sizeof(p->wish.repo), "%s", o->name.repo);
	snprintf(p->wish.commit, sizeof(p->wish.commit), "%s", p->repo.commit);
	snprintf(p->wish.source, sizeof(p->wish.source), "%s", gguf ? path : "");
	snprintf(p->wish.kernel, sizeof(p->wish.kernel), "%s", o->kernel != NULL ? o->kernel : "");
	snprintf(p->wish.embedding, sizeof(p->wish.embedding), "%s",
		 o->embedding != NULL ? o->embedding : "");
	p->wish.converted = p->convert;
}

static enum bn_status open_store(struct pull *p, struct bn_error *err)
{
	char root[BN_STORE_PATH_BYTES], path[BN_STORE_PATH_BYTES];
	enum bn_status status;
	int n;

	if (p->o->to != NULL) {
		return bn_store_open(&p->store, p->o->to, err);
	}
	status = bn_store_root(root, p->o->is_root, p->o->xdg_data_home, p->o->home, err);
	if (status != BN_OK) {
		return status;
	}
	n = snprintf(path, sizeof(path), "%s/%s/%.*s", root, p->o->name.repo, COMMIT_DIGITS,
		     p->repo.commit);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		return bn_fail(err, BN_E_INVALID, "the name of the folder for models is too long");
	}
	return bn_store_open(&p->store, path, err);
}

/* What we made ourselves may be made anew; a file in somebody's own folder may not. */
static bool may_replace(const struct pull *p)
{
	struct bn_record old;

	return p->o->to == NULL || p->o->force || bn_record_read(&old, p->result_fd, p->result);
}

static enum bn_status prepare(struct pull *p, struct bn_error *err)
{
	enum bn_status status = open_store(p, err);

	if (status == BN_OK) {
		status = bn_store_folder(&p->result_fd, p->store.dirfd, p->folder, err);
	}
	if (status == BN_OK && p->convert) {
		status = bn_tool_find(p->tool, sizeof(p->tool), "bn-convert", p->o->search_path,
				      err);
	}
	return status;
}

/* ---- already here? ------------------------------------------------------------------------ */

/* The record of what now lies there. */
static enum bn_status record_result(struct pull *p, struct bn_error *err)
{
	const int fd = openat(p->result_fd, p->result, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat about;
	enum bn_status status;

	if (fd < 0 || fstat(fd, &about) != 0) {
		status = bn_fail(err, BN_E_IO, "%s: %s", p->result, strerror(errno));
	} else if (!p->convert && p->choice.files[0]->digest.kind == BN_DIGEST_SHA256) {
		p->wish.digest = p->choice.files[0]->digest;
		status = BN_OK;
	} else {
		bn_meter_start(&p->meter, (uint64_t)about.st_size);
		status = bn_digest_file(&p->wish.digest, BN_DIGEST_SHA256, fd, on_digest, p, err);
		bn_meter_stop(&p->meter);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (status != BN_OK) {
		return status;
	}
	p->wish.size = (uint64_t)about.st_size;
	return bn_record_write(&p->wish, p->result_fd, p->result, err);
}

/* Sets *here when the result of the same wish is there and its bytes are right. */
static enum bn_status look(struct pull *p, bool *here, struct bn_error *err)
{
	struct bn_download_file file = { .path = "" };
	struct bn_record old;
	const bool known =
		bn_record_read(&old, p->result_fd, p->result) && bn_record_same(&old, &p->wish);
	enum bn_status status;

	*here = false;
	if (known) {
		file.size = old.size;
		file.digest = old.digest;
	} else if (!p->convert) {
		file.size = p->choice.files[0]->size;
		file.digest = p->choice.files[0]->digest;
	} else {
		return BN_OK;
	}
	bn_meter_start(&p->meter, file.size != BN_HUB_SIZE_UNKNOWN ? file.size : 0);
	status = bn_download_have(p->d, &file, p->result_fd, p->result, here, err);
	bn_meter_stop(&p->meter);
	if (status == BN_OK && *here && !known) {
		return record_result(p, err);
	}
	p->wish.size = file.size;
	p->wish.digest = file.digest;
	return status;
}

/* ---- fetching ----------------------------------------------------------------------------- */

static enum bn_status fetch_all(struct pull *p, struct bn_error *err)
{
	const struct bn_gather gather = {
		.download = p->d,
		.name = p->o->name.repo,
		.repo = &p->repo,
		.choice = &p->choice,
		/* The folder of what is converted is our own. */
		.dirfd = p->convert ? p->source_fd : p->result_fd,
		.replace = p->convert || may_replace(p),
		.meter = &p->meter,
	};

	return bn_gather(&gather, err);
}

/* ---- converting --------------------------------------------------------------------------- */

static enum bn_status run_convert(struct pull *p, struct bn_error *err)
{
	char from[2 * BN_STORE_PATH_BYTES], to[2 * BN_STORE_PATH_BYTES], name[NAME_BYTES];
	const char *argv[ARGS_MAX];
	const bool gguf = p->choice.kind == BN_HUB_GGUF;
	size_t n = 0;
	int code;

	snprintf(from, sizeof(from), "%s/%s%s%s", p->store.path, p->source, gguf ? "/" : "",
		 gguf ? bn_gather_base(p->choice.files[0]->path) : "");
	snprintf(to, sizeof(to), "%s/%s", p->store.path, p->result);
	snprintf(name, sizeof(name), "%s", bn_gather_base(p->o->name.repo));
	argv[n++] = "bn-convert";
	argv[n++] = from;
	argv[n++] = "--output";
	argv[n++] = to;
	argv[n++] = "--name";
	argv[n++] = name;
	if (p->o->kernel != NULL) {
		argv[n++] = "--kernel";
		argv[n++] = p->wish.kernel;
	}
	if (p->o->embedding != NULL) {
		argv[n++] = "--embedding";
		argv[n++] = p->wish.embedding;
	}
	if (may_replace(p)) {
		argv[n++] = "--force";
	}
	if (p->ctl->quiet) {
		argv[n++] = "--quiet";
	}
	argv[n] = NULL;
	code = bn_tool_run(p->tool, argv, interrupted, NULL);
	if (bn_ctl_interrupts() > 0) {
		return bn_fail(err, BN_E_CANCELLED, "stopped");
	}
	if (code != 0) {
		return bn_fail(err, BN_E_FORMAT,
			       "bn-convert ended with %d; what it converts is kept in %.200s", code,
			       from);
	}
	return BN_OK;
}

/* Removes what was converted, and nothing that we did not fetch. */
static void remove_source(struct pull *p)
{
	for (size_t i = 0; i < p->choice.n; i++) {
		unlinkat(p->source_fd, bn_gather_base(p->choice.files[i]->path), 0);
	}
	unlinkat(p->store.dirfd, p->source, AT_REMOVEDIR);
}

static enum bn_status make(struct pull *p, struct bn_error *err)
{
	struct stat about;
	enum bn_status status = BN_OK;

	/* Said before gigabytes come, not after. */
	if (p->convert && !may_replace(p) &&
	    fstatat(p->result_fd, p->result, &about, AT_SYMLINK_NOFOLLOW) == 0) {
		return bn_fail(err, BN_E_CONFLICT,
			       "%s/%s is there already: move it away, or replace it with --force",
			       p->store.path, p->result);
	}
	if (p->convert) {
		status = bn_store_folder(&p->source_fd, p->store.dirfd, p->source, err);
	}
	if (status == BN_OK) {
		status = fetch_all(p, err);
	}
	if (status == BN_OK && p->convert) {
		status = run_convert(p, err);
	}
	if (status == BN_OK) {
		status = record_result(p, err);
	}
	if (status == BN_OK && p->convert && !p->o->keep_source) {
		remove_source(p);
	}
	return status;
}

/* ---- answers ------------------------------------------------------------------------------ */

static int exit_code(enum bn_status status)
{
	switch (status) {
	case BN_OK:
		return BN_EXIT_OK;
	case BN_E_INVALID:
		return BN_EXIT_USAGE;
	case BN_E_PERMISSION:
		return BN_EXIT_DENIED;
	case BN_E_OVERLOADED:
	case BN_E_CONNECT:
		return BN_EXIT_RETRY;
	case BN_E_IO:
		return BN_EXIT_IO;
	case BN_E_CANCELLED:
		return BN_EXIT_INTERRUPTED;
	case BN_E_MEMORY:
	case BN_E_INTERNAL:
		return BN_EXIT_SOFTWARE;
	default:
		return BN_EXIT_FAILED;
	}
}

static int complain(struct pull *p, enum bn_status status, const struct bn_error *err)
{
	if (status == BN_E_CANCELLED) {
		bn_ctl_complain(p->ctl, "stopped; what has come is kept, and the same command goes "
					"on from there");
		return BN_EXIT_INTERRUPTED;
	}
	bn_ctl_complain(p->ctl, "%s: %s", p->o->name.repo, err->text);
	if ((status == BN_E_CONNECT || status == BN_E_OVERLOADED) && !p->ctl->quiet) {
		bn_ctl_complain(p->ctl, "the same command goes on where this one stopped");
	}
	return exit_code(status);
}

static int print_json(struct pull *p, const char *model, const char *path, bool was_here)
{
	json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:b, s:b}", "model", model, "path",
				path, "repo", p->wish.repo, "commit", p->wish.commit, "bytes",
				(json_int_t)p->wish.size, "sha256", p->wish.digest.hex, "converted",
				(int)p->wish.converted, "was_here", (int)was_here);

	return bn_json_put(p->ctl->out.to, out) ? BN_EXIT_OK : BN_EXIT_IO;
}

static int print_result(struct pull *p, bool was_here)
{
	char path[3 * BN_STORE_PATH_BYTES], size[32], model[BN_RECORD_NAME_MAX + 1];

	snprintf(path, sizeof(path), "%s/%s%s%s", p->store.path, p->folder,
		 p->folder[0] != '\0' ? "/" : "", p->result);
	bn_record_model_name(model, p->o->name.repo);
	if (!p->ctl->quiet) {
		bn_term_progress_end(&p->ctl->err);
		fprintf(p->ctl->err.to, "%s %s (%s)\n",
			was_here ? "Already here and verified:" : "Saved and verified:", path,
			bn_term_bytes(size, sizeof(size), (int64_t)p->wish.size));
		fflush(p->ctl->err.to);
	}
	if (p->ctl->json) {
		return print_json(p, model, path, was_here);
	}
	if (!p->ctl->quiet) {
		fputs(p->o->is_root ? "For /etc/bnd/bnd.yaml, then `systemctl reload bnd`:\n"
				    : "For the bnd.yaml of your bnd, then let it reload "
				      "(`pkill -HUP -x bnd`):\n",
		      p->ctl->err.to);
		fflush(p->ctl->err.to);
	}
	bn_record_print_yaml(p->ctl->out.to, model, path);
	return BN_EXIT_OK;
}

static enum bn_status run(struct pull *p, bool *was_here, struct bn_error *err)
{
	enum bn_status status = ask_hub(p, err);

	if (status != BN_OK) {
		return status;
	}
	if (p->choice.kind == BN_HUB_UNDECIDED) {
		return fail_undecided(p, err);
	}
	if (p->choice.kind == BN_HUB_CHECKPOINT && p->o->embedding != NULL &&
	    strcmp(p->o->embedding, "keep") == 0) {
		return bn_fail(err, BN_E_INVALID,
			       "--embedding keep is for GGUF files and this is a checkpoint: take "
			       "f16, q8_0 or q6_k");
	}
	p->convert = p->choice.kind == BN_HUB_CHECKPOINT || p->o->kernel != NULL ||
		     p->o->embedding != NULL;
	name_result(p);
	status = prepare(p, err);
	if (status == BN_OK) {
		status = look(p, was_here, err);
	}
	return status == BN_OK && !*was_here ? make(p, err) : status;
}

static void finish(struct pull *p)
{
	if (p->result_fd >= 0) {
		close(p->result_fd);
	}
	if (p->source_fd >= 0) {
		close(p->source_fd);
	}
	bn_store_close(&p->store);
	bn_hub_repo_finish(&p->repo);
	bn_download_free(p->d);
}

int bn_pull(struct bn_ctl *ctl, const struct bn_pull_options *options)
{
	struct pull p = { .ctl = ctl,
			  .o = options,
			  .result_fd = -1,
			  .source_fd = -1,
			  .meter = { .term = &ctl->err, .quiet = ctl->quiet } };
	const struct bn_download_options download = {
		.http = { .endpoint = options->endpoint,
			  .token = options->token,
			  .stall_s = options->stall_s },
		.retries = options->retries,
		.who = &p,
		.progress = on_progress,
		.notice = on_notice,
	};
	struct bn_error err;
	bool was_here = false;
	enum bn_status status;
	int code;

	bn_ctl_catch_interrupts();
	status = bn_download_new(&p.d, &download, &err);
	if (status == BN_OK) {
		status = run(&p, &was_here, &err);
	}
	code = status == BN_OK ? print_result(&p, was_here) : complain(&p, status, &err);
	finish(&p);
	return code;
}
