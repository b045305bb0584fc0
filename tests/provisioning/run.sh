#!/usr/bin/env bash
# Exercises every provisioning script on scratch trees, with real peers: mosquitto, dcmtk, curl, nft,
# and the appliance itself. Prints a line a check and `provisioning: N passed, M failed, K skipped`.
#
#   run.sh [--all] [NAME...]   the parts of that name, as enrol or est; all where none is named
#   --all                      also what takes long: a kill at every command, a second shell for all
#
#   CLEARFILM=FILE             the appliance's program
#   CLEARFILM_FLEET=FILE       the fleet's program
#   JOBS=N                     parts at a time, as many as there are processors where it is not set
#   BOOT_ROOT=FOLDER           root of a Debian that can boot; tests/run.sh makes one
#
# The scripts under test are POSIX sh; the tests are bash.
set -u
here=$(dirname "$(readlink -f "$0")")
workspace=$(dirname "$(dirname "$here")")
export scripts="$workspace/provisioning/scripts"
# Debian keeps daemons (mosquitto, nft) where a user's PATH does not look.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

all='' names=()
for word in "$@"; do
    if [ "$word" = --all ]; then all=1; else names+=("$word"); fi
done
for program in CLEARFILM CLEARFILM_FLEET; do
    if [ ! -x "${!program-}" ]; then
        printf 'tests/provisioning/run.sh: expected %s to name a program, found %s\n' "$program" "${!program:-none}" >&2
        exit 2
    fi
    export "$program=$(readlink -f "${!program}")"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/clearfilm-provisioning.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# The longest ones first: they are what the end waits for.
parts=(booted kill replace-board verify est secrets load enrol render broker ca install rotate decommission revoke user lint)
# Parts that the second shell runs too: all that a shell can get wrong is in them.
second=(ca rotate render)
# All but the system that boots, which has a shell of its own.
[ -z "$all" ] || second=("${parts[@]:1}")

# SHELL PART: in a process of its own, with a folder and an authority of its own.
run_part() (
    SH=$1 part=$2 T="$work/${1%% *}-$2"
    mkdir -p "$T/tmp"
    export SH T TMPDIR="$T/tmp"
    : >"$T/results"
    # shellcheck source=tests/provisioning/harness.sh
    . "$here/harness.sh"
    trap end_part EXIT
    begin_part
    # shellcheck source=/dev/null
    . "$here/$part.sh"
    nothing_told
)

# Starts a part as soon as fewer than JOBS run; its lines are shown when it ends.
start() {
    local jobs=${JOBS:-$(nproc)}
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    {
        run_part "$1" "$2" >"$work/${1%% *}-$2.log" 2>&1 || echo "FAILED: $2 ended early" >>"$work/${1%% *}-$2.log"
        # One write, so that lines of two parts do not mix.
        { printf '## %s, %s\n' "$2" "$1" && cat "$work/${1%% *}-$2.log"; } >"$work/$BASHPID.show"
        cat "$work/$BASHPID.show"
    } &
}

printf '# %s, %s\n' "$(openssl version)" "$(date -u)"
for name in ${names[@]+"${names[@]}"}; do
    case " ${parts[*]} " in
    *" $name "*) ;;
    *) printf 'tests/provisioning/run.sh: expected one of %s, found %s\n' "${parts[*]}" "$name" >&2 && exit 2 ;;
    esac
done
export all
for shell in dash "busybox sh"; do
    for part in "${parts[@]}"; do
        case " ${names[*]-} " in *" $part "* | '  ') ;; *) continue ;; esac
        if [ "$shell" != dash ]; then case " ${second[*]} " in *" $part "*) ;; *) continue ;; esac; fi
        start "$shell" "$part"
    done
done
wait

passed=$(cat "$work"/*.log | grep -c '^ok: ')
failed=$(cat "$work"/*.log | grep -c '^FAILED: ')
skipped=$(cat "$work"/*.log | grep -c '^!! SKIPPED: ')
grep -h '^FAILED: ' "$work"/*.log
printf 'provisioning: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
