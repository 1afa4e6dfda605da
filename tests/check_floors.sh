#!/bin/sh
# Fails when an include points sideways or up (tests/floors.txt), when a file stands on no floor,
# when the client looks at the engine or the daemon, or when intrinsics leave kernels/.
set -eu
cd "${1:-$(dirname "$0")/..}"
for f in proto/*.[ch] kernels/*.[ch] engine/*.[ch] daemon/*.[ch] client/*.[ch]; do
	[ -e "$f" ] || continue
	sed -n "s|^[[:space:]]*#[[:space:]]*include \"\([^\"]*\)\".*|$f \1|p" "$f"
	echo "$f"
	if [ "${f%%/*}" != kernels ] && grep -nE '#[[:space:]]*include <(immintrin|x86intrin|arm_neon)' "$f" >&2; then
		echo "INTRINSICS $f"
	fi
done | awk -v list=tests/floors.txt '
function to_regex(p) { gsub(/\./, "\\.", p); gsub(/\*/, "[^/]*", p); return "^" p "$" }
function stem(f) { sub(/\.[ch]$/, "", f); return f }
function floor_of(f,    i) {
	for (i = 1; i <= n; i++) if (stem(f) ~ pattern[i]) return level[i]
	return -1
}
BEGIN {
	while ((getline line < list) > 0) {
		if (line ~ /^[[:space:]]*[0-9]+[[:space:]]/) {
			split(line, a, " "); n++; level[n] = a[1] + 0; pattern[n] = to_regex(a[2])
		} else if (line ~ /^may[[:space:]]/) {
			split(line, a, " "); may[a[2] " " a[3]] = 1
		}
	}
}
$1 == "INTRINSICS" { print $2 ": intrinsics belong in kernels/"; bad++; next }
NF == 1 {
	if (floor_of($1) < 0) { print $1 ": on no floor; add it to " list; bad++ }
	next
}
{
	files++
	from = floor_of($1); to = floor_of($2)
	if (stem($1) == stem($2)) next
	if ($2 !~ /\//) { print $1 ": include \"" $2 "\" without its folder"; bad++; next }
	if (to < 0) { print $1 ": includes " $2 ", which stands on no floor"; bad++; next }
	if (from >= 0 && to >= from) {
		print $1 " (floor " from ") includes " $2 " (floor " to "): includes only point down"; bad++
	}
	if ($1 ~ /^client\// && $2 !~ /^(client|proto)\// && (stem($1) " " stem($2)) in may) {
		used[stem($1) " " stem($2)] = 1
	} else if ($1 ~ /^client\// && $2 !~ /^(client|proto)\//) { print $1 ": the client stands on proto alone, not " $2; bad++ }
	if ($1 ~ /^engine\// && $2 ~ /^(daemon|client)\//) { print $1 ": the engine does not know " $2; bad++ }
}
END {
	for (m in may) if (!(m in used)) { print list ": nobody needs the exception " m; bad++ }
	if (files == 0) { print "no includes found: run in the project folder"; exit 1 }
	if (bad) { print bad " broken rule(s)"; exit 1 }
	print files " includes, all pointing down"
}'
