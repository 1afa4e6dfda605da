#!/bin/sh
# Fails when clang-tidy 14 has something to say about a source file of the product; .clang-tidy says
# about what. Arguments: the source folder, a build folder with compile_commands.json. Exits with 77
# (skipped) where there is no such clang-tidy: others know other checks.
set -eu
cd "$1"
if ! command -v clang-tidy-14 >/dev/null; then
	echo "skipped: no clang-tidy-14"
	exit 77
fi
list=$2/tidy.list
sed -n "s|^  \"file\": \"$PWD/\(.*\.c\)\".*|\1|p" "$2/compile_commands.json" | sort -u |
	grep -E '^(proto|kernels|engine|daemon|client)/' >"$list" || {
	echo "$2/compile_commands.json names no source file of the product"
	exit 1
}
xargs -P "$(nproc)" -n 8 clang-tidy-14 --quiet -p "$2" <"$list"
echo "$(wc -l <"$list") files, nothing to say"
