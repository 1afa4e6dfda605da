/*
 * Names are resolved once, when the configuration is read: a directory service that hangs must
 * not hold up the loop at every connection, and a name that does not exist must fail at start.
 */
#include "daemon/auth.h"

#include "proto/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct rule {
	bool is_group;
	uint32_t id;
	uint32_t may;
};

struct bn_auth {
	uid_t own;      /* effective uid of the daemon */
	uid_t overflow; /* how the kernel shows uids it cannot express here */
	bool listed;    /* there is an access list */
	uint32_t n;
	struct rule rules[]; /* [n] */
};

enum {
	OVERFLOW_UID = 65534,
	GROUPS_MAX = 65536, /* NGROUPS_MAX of the kernel */
	LOOKUP_BYTES_MAX = 1 << 20,
};

/* The kernel's setting, its default where /proc is hidden. */
static uid_t overflow_uid(void)
{
	char text[32] = "";
	int fd = open("/proc/sys/kernel/overflowuid", O_RDONLY | O_CLOEXEC);
	unsigned long value = OVERFLOW_UID;

	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) > 0) {
			value = strtoul(text, NULL, 10);
		}
		close(fd);
	}
	return value > 0 && value < UINT32_MAX ? (uid_t)value : OVERFLOW_UID;
}

/* "1000" is a number; names never begin with a digit on Debian. (uid_t)-1 means "no one". */
static bool parse_id(const char *text, uint32_t *id)
{
	char *end;
	unsigned long long value;

	if (text[0] < '0' || text[0] > '9') {
		return false;
	}
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value >= UINT32_MAX) {
		return false;
	}
	*id = (uint32_t)value;
	return true;
}

/* One look-up with a buffer of n bytes. 0 and *found, or an errno; ERANGE asks for more. */
static int look_up(bool is_group, const char *name, char *buffer, size_t n, bool *found,
		   uint32_t *id)
{
	struct group group, *group_found = NULL;
	struct passwd user, *user_found = NULL;
	int rc = is_group ? getgrnam_r(name, &group, buffer, n, &group_found)
			  : getpwnam_r(name, &user, buffer, n, &user_found);

	*found = group_found != NULL || user_found != NULL;
	if (group_found != NULL) {
		*id = group.gr_gid;
	} else if (user_found != NULL) {
		*id = user.pw_uid;
	}
	return rc;
}

static enum bn_status resolve(const char *file, const struct bn_config_rule *rule, struct rule *out,
			      struct bn_error *err)
{
	const char *name = rule->user != NULL ? rule->user : rule->group;
	const char *what = rule->user != NULL ? "user" : "group";
	size_t n = 1024;
	bool found = false;
	int rc = ERANGE;

	out->is_group = rule->user == NULL;
	out->may = rule->may;
	if (parse_id(name, &out->id)) {
		return BN_OK;
	}
	while (rc == ERANGE && n <= LOOKUP_BYTES_MAX) {
		char *buffer = malloc(n);

		if (buffer == NULL) {
			return bn_fail(err, BN_E_MEMORY, "no memory to look up %s '%s'", what,
				       name);
		}
		rc = look_up(out->is_group, name, buffer, n, &found, &out->id);
		free(buffer);
		n *= 4;
	}
	if (found) {
		return BN_OK;
	}
	/* "Not found" comes as 0 or as one of these, depending on the directory. */
	if (rc == 0 || rc == ENOENT || rc == ESRCH || rc == EBADF || rc == EPERM) {
		return bn_fail(err, BN_E_CONFIG,
			       "%s:%u:%u: access: there is no %s '%s' on this machine", file,
			       rule->line, rule->column, what, name);
	}
	return bn_fail(err, BN_E_IO, "%s:%u:%u: access: cannot look up %s '%s': %s", file,
		       rule->line, rule->column, what, name, strerror(rc));
}

enum bn_status bn_auth_new(struct bn_auth **out, const struct bn_config *config,
			   struct bn_error *err)
{
	struct bn_auth *a = calloc(1, sizeof(*a) + config->n_access * sizeof(a->rules[0]));

	if (a == NULL) {
		return bn_fail(err, BN_E_MEMORY, "no memory for the access list");
	}
	a->own = geteuid();
	a->overflow = overflow_uid();
	a->listed = config->n_access > 0;
	a->n = config->n_access;
	for (uint32_t i = 0; i < a->n; i++) {
		enum bn_status status =
			resolve(config->file, &config->access[i], &a->rules[i], err);

		if (status != BN_OK) {
			free(a);
			return status;
		}
	}
	*out = a;
	return BN_OK;
}

void bn_auth_free(struct bn_auth *a)
{
	free(a);
}

static bool in_groups(uint32_t id, gid_t gid, const gid_t *groups, size_t n)
{
	bool in = gid == id;

	for (size_t i = 0; i < n && !in; i++) {
		in = groups[i] == id;
	}
	return in;
}

uint32_t bn_auth_rights(const struct bn_auth *a, uid_t uid, gid_t gid, const gid_t *groups,
			size_t n)
{
	uint32_t rights = 0;

	if (uid == 0 || uid == a->own) {
		return BN_MAY_ALL;
	}
	if (uid == a->overflow || uid == (uid_t)-1) {
		return 0;
	}
	if (!a->listed) {
		return BN_MAY_STATUS | BN_MAY_GENERATE;
	}
	for (uint32_t i = 0; i < a->n; i++) {
		const struct rule *rule = &a->rules[i];

		if (rule->is_group ? in_groups(rule->id, gid, groups, n) : uid == rule->id) {
			rights |= rule->may;
		}
	}
	return rights;
}

/* SO_PEERGROUPS into *groups, to be freed. Kernels before 4.13 do not know it: then none. */
static enum bn_status peer_groups(int fd, gid_t **groups, size_t *n, struct bn_error *err)
{
	socklen_t bytes = 64 * sizeof(gid_t);

	*groups = NULL;
	*n = 0;
	for (;;) {
		gid_t *list = realloc(*groups, bytes > 0 ? bytes : 1);

		if (list == NULL) {
			free(*groups);
			return bn_fail(err, BN_E_MEMORY, "no memory for the groups of a peer");
		}
		*groups = list;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &bytes) == 0) {
			*n = bytes / sizeof(gid_t);
			return BN_OK;
		}
		if (errno == ENOPROTOOPT || errno == ENODATA) {
			return BN_OK;
		}
		/* ERANGE has put the right size into `bytes`. */
		if (errno != ERANGE || bytes > GROUPS_MAX * sizeof(gid_t)) {
			free(*groups);
			return bn_fail(err, BN_E_IO, "SO_PEERGROUPS: %s", strerror(errno));
		}
	}
}

enum bn_status bn_auth_peer(const struct bn_auth *a, int fd, struct bn_peer *out,
			    struct bn_error *err)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);
	gid_t *groups;
	size_t n_groups;
	enum bn_status status;

	*out = (struct bn_peer){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0) {
		return bn_fail(err, BN_E_IO, "SO_PEERCRED: %s", strerror(errno));
	}
	status = peer_groups(fd, &groups, &n_groups, err);
	if (status != BN_OK) {
		return status;
	}
	out->uid = cred.uid;
	out->gid = cred.gid;
	out->pid = cred.pid;
	out->rights = bn_auth_rights(a, cred.uid, cred.gid, groups, n_groups);
	free(groups);
	if (cred.uid == a->overflow && out->rights == 0) {
		return bn_fail(err, BN_E_PERMISSION,
			       "your uid cannot be seen from here (%" PRIu32
			       "): connect from outside the container or user namespace",
			       (uint32_t)cred.uid);
	}
	if (out->rights == 0) {
		return bn_fail(
			err, BN_E_PERMISSION,
			"uid %" PRIu32
			" is not on the access list of bnd: ask its administrator for an entry "
			"under `access`",
			(uint32_t)cred.uid);
	}
	return BN_OK;
}

enum bn_status bn_auth_check(const struct bn_peer *peer, uint32_t needed, struct bn_error *err)
{
	static const char *const words[] = { "status", "generate", "load", "admin" };
	uint32_t missing = needed & ~peer->rights;

	if (missing == 0) {
		return BN_OK;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if ((missing >> i & 1) != 0) {
			bn_fail(err, BN_E_PERMISSION,
				"uid %" PRIu32 " lacks the right '%s' (see `access` in the "
				"configuration of bnd)",
				(uint32_t)peer->uid, words[i]);
			bn_error_string(err, "right", words[i]);
			return BN_E_PERMISSION;
		}
	}
	bn_assert(false); /* a right without a word */
	return BN_E_INTERNAL;
}

enum bn_status bn_auth_check_identity(const char *uid_map, struct bn_error *err)
{
	FILE *file = fopen(uid_map, "re");
	uint32_t inside, outside, count;
	int fields;

	if (file == NULL) {
		return BN_OK; /* hidden; what cannot be seen is judged per peer by the overflow uid
			       */
	}
	/* The kernel's own numbers. NOLINTNEXTLINE(cert-err34-c) */
	fields = fscanf(file, "%" SCNu32 " %" SCNu32 " %" SCNu32, &inside, &outside, &count);
	fclose(file);
	if (fields == 3 && inside == 0 && outside == 0 && count == UINT32_MAX) {
		return BN_OK;
	}
	return bn_fail(
		err, BN_E_CONFIG,
		"bnd runs in a user namespace (PrivateUsers=yes or a rootless container), where "
		"it cannot tell users apart, but `access` lists some: run it outside, or leave "
		"`access` out");
}
