#!/usr/bin/env bash
# The demo: one real clip (two people, one speaks and one listens) from file to shards, then what one can ask of it.
set -euo pipefail
lpm=$1
out=demo/dataset
show() { printf '\n\033[1m$ %s\033[0m\n' "lpm ${*//$'\n'/ }"; "$lpm" "$@"; }

echo "== models and the clip (hash-checked, kept in the cache)"
"$lpm" models fetch
clip=$("$lpm" models path obama_speech.mp4)
echo "== the conversation workflow on it, with a policy that admits its low resolution"
"$lpm" run "$clip" --out "$out" --workflow demo
printf '\n== shards\n'
ls -l "$out"/shards
shards=("$out"/shards/*.tar)
tar tvf "${shards[0]}" | sed -n 1,16p  # not head: it would leave tar writing into a closed pipe, which ends the script
show query "$out" "SELECT sample_id, state, round(duration_s, 2) AS seconds, n_references AS refs, caption FROM manifest ORDER BY start_s"
printf '\nreport: %s/report/index.html\n' "$out"
