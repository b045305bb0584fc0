# shellcheck shell=bash
# The scripts as text, and their command lines.
: "${scripts:?}" "${T:?}"
need shellcheck busybox || return 0
verbs=(ca enrol render install verify rotate revoke decommission replace-board)
for one in "${verbs[@]}" "$scripts"/lib/*.sh; do
    file=$one
    [ -f "$file" ] || file="$scripts/$one"
    name=$(basename "$file")
    # As sh it is looked at with all other scripts, by tests/run.sh.
    holds "$name: shellcheck has nothing to say, of dash" shellcheck -x -s dash -P "$scripts" "$file"
    holds "$name: it parses in busybox" busybox sh -n "$file"
    holds "$name: at most 400 lines" test "$(wc -l <"$file")" -le 400
    long=$(awk '/^[a-z_]+\(\) \{$/ { name = $1; start = FNR } /^}$/ { if (name != "" && FNR - start + 1 > 40) print name; name = "" }' "$file")
    holds "$name: functions of at most 40 lines" test -z "$long"
done
for one in "${verbs[@]}"; do
    expect "$one: --help" 0 "$one" "$one" --help
    expect "$one: an unknown option is a matter of usage" 2 "--nonsense" "$one" --nonsense x
    expect "$one: an option without its value is a matter of usage" 2 "expected a value" "$one" --root
done
