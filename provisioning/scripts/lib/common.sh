# shellcheck shell=sh
# What all provisioning verbs share: messages and exit codes, options, ids, and changes to files
# that are atomic, made only where something differs, and only named in a dry run.
#
# A verb sources this file first. It relies on coreutils, awk, grep, sed and flock.
# Exit codes: 0 ok, 1 failed, 2 usage, 4 a check failed.

# Ranges such as [a-z] mean ASCII in every pattern below, whatever the machine's language is.
LC_ALL=C
export LC_ALL
# What a verb writes is private until its mode is set.
umask 077

me=$(basename "$0")
root=''    # prefix of every path on the device, for tests and images; '' is the running system
dry_run='' # not empty: changes are named, not made
talk=1     # where results go; 2 where standard output is for a certificate alone
changes=0  # how many were made or named
told_owner='' # not empty: it was said that owners cannot be set
scratch='' # folder for what is not secret; see need_scratch

# --- messages ---

say() { printf '%s\n' "$*" >&"$talk"; }

# What others wrote (names in requests, lines of files) is shown without control characters.
warn() { printf '%s: %s\n' "$me" "$*" | tr -c '[:print:]\n' '?' >&2; }

# FILE EXPECTED FOUND: it could not be done.
fail() {
    warn "$1: expected $2, found $3"
    exit 1
}

# FILE EXPECTED FOUND: what was given or is there does not pass a check.
refuse() {
    warn "$1: expected $2, found $3"
    exit 4
}

# OPTION EXPECTED FOUND: the command line is wrong.
usage() {
    warn "$1: expected $2, found $3; see $me --help"
    exit 2
}

finish() {
    if [ "$changes" -eq 0 ]; then say "nothing to do"; fi
}

# --- options ---

# Needs the words from the option on.
need_value() {
    if [ $# -lt 2 ] || [ -z "$2" ]; then usage "$1" "a value" "none"; fi
}

# Takes an option that every verb has. `taken` is how many words that were, 0 for another option.
# shellcheck disable=SC2034 # the verbs read `taken`
common_option() {
    taken=1
    case "$1" in
    --help)
        help
        exit 0
        ;;
    --dry-run) dry_run=1 ;;
    --root)
        need_value "$@"
        case "$2" in
        /*) ;;
        *) usage --root "an absolute path" "$2" ;;
        esac
        [ -d "$2" ] || usage --root "a folder" "$2"
        root=${2%/}
        taken=2
        ;;
    *) taken=0 ;;
    esac
}

# TEXT SHORTEST: [a-z0-9-], SHORTEST to 32 characters.
is_slug() {
    case "$1" in
    '' | *[!a-z0-9-]*) return 1 ;;
    esac
    [ ${#1} -ge "$2" ] && [ ${#1} -le 32 ]
}

is_unit() { is_slug "$1" 4; }

check_unit() { is_unit "$1" || usage --unit "a device id [a-z0-9-]{4,32}" "$1"; }

# TEXT LEAST MOST: a number without leading zeros, which arithmetic would read as octal.
is_number() {
    case "$1" in
    '' | *[!0-9]* | ?????????* | 0?*) return 1 ;;
    esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

# TEXT: four numbers, none with a leading zero, which some programs read as octal.
is_ipv4() {
    printf '%s\n' "$1" | awk -F. '
        { ok = NF == 4; for (i = 1; i <= NF; i++) ok = ok && $i ~ /^(0|[1-9][0-9]?[0-9]?)$/ && $i < 256 }
        END { exit !(ok && NR == 1) }'
}

# TEXT: an IPv6 address with all eight groups, as openssl prints them, or nothing.
expand_ipv6() {
    printf '%s\n' "$1" | awk '
        NR > 1 || /[^0-9a-fA-F:]/ { exit }
        {
            halves = split(toupper($0), half, "::")
            if (halves > 2) exit
            left = split(half[1], a, ":"); right = halves == 2 ? split(half[2], b, ":") : 0
            if (halves == 2 ? left + right > 7 : left != 8) exit
            for (i = 1; i <= 8; i++) {
                group = i <= left ? a[i] : (i > 8 - right ? b[i - 8 + right] : "0")
                if (group !~ /^[0-9A-F][0-9A-F]?[0-9A-F]?[0-9A-F]?$/) exit
                sub(/^0+/, "", group)
                out = out (i > 1 ? ":" : "") (group == "" ? "0" : group)
            }
            print out
        }'
}

is_address() { is_ipv4 "$1" || [ -n "$(expand_ipv6 "$1")" ]; }

# TEXT: a name of the DNS, lower case.
is_host_name() {
    case "$1" in
    '' | -* | .* | *. | *..* | *[!a-z0-9.-]*) return 1 ;;
    esac
    [ ${#1} -le 253 ] && ! is_ipv4 "$1"
}

check_host() {
    is_host_name "$1" || is_address "$1" || usage --host "a name [a-z0-9.-] or an address" "$1"
}

need_file() {
    [ -f "$1" ] || fail "$1" "a file" "none"
    [ -r "$1" ] || fail "$1" "a file that can be read" "one that cannot"
}

need_program() {
    command -v "$1" >/dev/null 2>&1 || fail "$1" "this program to be installed" "none"
}

# COMMAND...: a program of the system, which makes files for everybody.
openly() (
    umask 022
    "$@"
)

# --- folders and locks ---

# A private folder that goes when the script ends. Keys and the site secret never enter it.
need_scratch() {
    [ -z "$scratch" ] || return 0
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/clearfilm.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
}

# FOLDER: one run at a time works on it. The lock is the kernel's, so that nothing is left behind
# by a run that was killed; descriptor 9 stays open to the end.
alone() {
    if [ -d "$1" ]; then
        exec 9<"$1"
        flock -w 10 9 || fail "$1" "nobody else to work on it" "another run of these scripts"
    fi
}

# --- changes ---

# What will happen, in words: true where it is to be done now.
change() {
    changes=$((changes + 1))
    if [ -n "$dry_run" ]; then
        say "would $*"
        return 1
    fi
    say "$*"
}

# NAME FILE: the number that the target's passwd or group gives a name, or nothing.
number_of() {
    if [ "$1" = root ]; then
        echo 0
    else
        awk -F: -v name="$1" '$1 == name { print $3; exit }' "$root/etc/$2" 2>/dev/null || :
    fi
}

# USER:GROUP as numbers, or nothing where they cannot be set: not root, or names not there yet.
# With --root the names are those of the other system, so the numbers are looked up there.
owner_numbers() {
    [ "$(id -u)" -eq 0 ] || return 0
    set -- "$(number_of "${1%:*}" passwd)" "$(number_of "${1#*:}" group)"
    if [ -n "$1" ] && [ -n "$2" ]; then echo "$1:$2"; fi
}

# FILE MODE OWNER: has it this mode, and this owner as far as that can be set? An owner of '' is
# whoever runs the script.
has() {
    [ "$(stat -c %a "$1" 2>/dev/null)" = "${2#0}" ] || return 1
    [ -n "$3" ] || return 0
    has_owner=$(owner_numbers "$3")
    [ -z "$has_owner" ] || [ "$(stat -c %u:%g "$1")" = "$has_owner" ]
}

# FILE OWNER
give_to() {
    [ -n "$2" ] || return 0
    give_owner=$(owner_numbers "$2")
    if [ -n "$give_owner" ]; then
        chown "$give_owner" "$1"
    elif [ -z "$told_owner" ]; then
        told_owner=1
        warn "$1: owner $2 is not set, nor others: that needs root, and the user that install makes"
    fi
}

# A file or folder that must outlive a power cut.
durable() { sync "$1" 2>/dev/null || sync; }

# Where a new file is made: beside its place, so that a rename is enough, under a name that the
# next run uses again if this one is killed.
new_name() { printf '%s/.%s.new\n' "$(dirname "$1")" "$(basename "$1")"; }

# FILE: standard input becomes a file that was not there: a link that somebody else put in its place
# is not followed.
create() {
    rm -f "$1"
    (set -C && cat >"$1")
}

# NEW TARGET MODE OWNER: a finished file takes its place, whole or not at all.
place() {
    give_to "$1" "$4"
    chmod "$3" "$1"
    durable "$1"
    mv -fT "$1" "$2"
    durable "$(dirname "$2")"
}

# SOURCE TARGET MODE OWNER: the target becomes a copy, where it differs.
install_file() {
    [ ! -d "$2" ] || fail "$2" "a file" "a folder"
    if cmp -s "$1" "$2" && has "$2" "$3" "$4"; then return 0; fi
    change "write $2 ($3${4:+ $4})" || return 0
    create "$(new_name "$2")" <"$1"
    place "$(new_name "$2")" "$2" "$3" "$4"
}

# FOLDER MODE OWNER
install_folder() {
    if [ -d "$1" ] && has "$1" "$2" "$3"; then return 0; fi
    if [ -d "$1" ]; then set -- "$@" set; else set -- "$@" "make folder"; fi
    change "$4 $1 ($2${3:+ $3})" || return 0
    openly mkdir -p "$(dirname "$1")"
    mkdir -p "$1"
    give_to "$1" "$3"
    chmod "$2" "$1"
}

# FILE MODE OWNER: a file that is there and stays gets its mode and owner.
install_mode() {
    if [ ! -e "$1" ] || has "$1" "$2" "$3"; then return 0; fi
    change "set $1 ($2 $3)" || return 0
    give_to "$1" "$3"
    chmod "$2" "$1"
}

# FILE...
remove() {
    for remove_one in "$@"; do
        if [ ! -e "$remove_one" ] && [ ! -L "$remove_one" ]; then continue; fi
        change "remove $remove_one" || continue
        rm -f "$remove_one"
        durable "$(dirname "$remove_one")"
    done
}
