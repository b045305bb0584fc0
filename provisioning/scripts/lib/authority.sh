# shellcheck shell=sh
# The certificate authority in a folder: its files, what it has issued, and changes to them that a
# kill cannot leave half done. For the verbs `ca` and `revoke`; sourced after common.sh and certs.sh.
#
#   ca.key             its private key, 0600
#   ca.pem             its certificate: devices and the broker trust it
#   openssl.cnf        what `openssl ca` reads
#   index.txt          a line a certificate: V or R, until, revoked, serial, file, subject
#   serial, crlnumber  the next numbers, hexadecimal
#   issued/            SERIAL.pem and, where it came from a request, SERIAL.csr
#   crl.pem            the list of what was revoked
#   broker/            keys and certificates that `ca broker` made
#
# Whoever runs the scripts owns the folder: an authority needs no root.
: "${root=}" "${scratch=}" "${dry_run=}"

dir=''
passphrase_file=''
# Not from the environment: it would be handed on to every program.
unset passphrase
passphrase=''

# A broker refuses everybody once its list has ended, so a list lasts as long as a certificate.
crl_life=397

# shellcheck disable=SC2034 # the verbs read `taken`
# Takes an option of all that use the authority's key; see common_option.
ca_option() {
    taken=2
    case "$1" in
    --passphrase-file)
        need_value "$@"
        need_file "$2"
        passphrase_file=$2
        ;;
    *) taken=0 ;;
    esac
}

# DIR: names the folder, below --root where that is given.
name_folder() {
    case "$1" in
    '' | -*) usage DIR "the folder of an authority" "${1:-none}" ;;
    /*) dir="$root$1" ;;
    *) dir="$(pwd)/$1" ;;
    esac
}

# DIR: begins to work with an authority.
enter() {
    name_folder "$1"
    if [ ! -f "$dir/index.txt" ] || [ ! -f "$dir/ca.pem" ]; then
        fail "$dir" "an authority made by ca init" "none"
    fi
    alone "$dir"
    need_scratch
    mkdir -p "$scratch/work/issued"
    [ -n "$dry_run" ] || sweep
}

# Removes what a killed run left: certificates that the index does not name were never given out.
sweep() {
    rm -f "$dir"/.*.new "$dir"/issued/.*.new "$dir"/broker/.*.new
    for sweep_one in "$dir"/issued/*; do
        sweep_serial=$(basename "$sweep_one")
        sweep_serial=${sweep_serial%.*}
        if [ -f "$sweep_one" ] && [ -z "$(status_of "$sweep_serial")" ]; then rm -f "$sweep_one"; fi
    done
}

# SERIAL: V, R or nothing.
status_of() { awk -F'\t' -v serial="$1" '$4 == serial { print $1 }' "$dir/index.txt"; }

# Lines `SERIAL SUBJECT` of certificates that were not revoked and have not ended.
valid_certificates() {
    awk -F'\t' -v now="$(date -u +%Y%m%d%H%M%SZ)" '
        { until = length($2) == 13 ? "20" $2 : $2 }
        $1 == "V" && until > now { print $4, $6 }' "$dir/index.txt"
}

# SUBJECT: serials of those of one subject, as `/CN=north-dx-2`.
valid_of() { valid_certificates | awk -v subject="$1" '$2 == subject { print $1 }'; }

# CERT: mqtt, dicom or broker.
kind_of_issued() {
    usages=$(extended_usage "$1")
    case "$usages" in
    *Client*Server* | *Server*Client*) echo dicom ;;
    *Client*) echo mqtt ;;
    *) echo broker ;;
    esac
}

# Once, from the terminal, into a variable that no program sees.
ask_passphrase() {
    [ -z "$passphrase" ] || return 0
    if ! (: </dev/tty) 2>/dev/null; then
        usage --passphrase-file "a file, where there is no terminal" "none"
    fi
    printf 'passphrase of %s: ' "$dir/ca.key" >/dev/tty
    stty -echo </dev/tty
    IFS= read -r passphrase </dev/tty || :
    stty echo </dev/tty
    echo >/dev/tty
    [ -n "$passphrase" ] || fail "$dir/ca.key" "a passphrase" "none"
}

# -passin|-passout ARGUMENT...: openssl that gets the passphrase by a file or by standard input: the
# list of processes shows arguments, and the environment is handed on.
with_passphrase() {
    pass_option=$1
    shift
    if [ -n "$passphrase_file" ]; then
        openssl "$@" "$pass_option" "file:$passphrase_file" </dev/null
    else
        ask_passphrase
        printf '%s\n' "$passphrase" | openssl "$@" "$pass_option" stdin
    fi
}

# ARGUMENT...: openssl that uses the authority's key.
with_key() {
    if grep -q ENCRYPTED "$dir/ca.key"; then
        with_passphrase -passin "$@"
    else
        openssl "$@" </dev/null
    fi
}

# ARGUMENT...: `openssl ca` on a copy of the index and the numbers. It replaces each of its files by
# two renames; a kill between them would leave the authority without an index.
on_copy() {
    for copy_one in openssl.cnf index.txt index.txt.attr serial crlnumber ca.pem; do
        cp "$dir/$copy_one" "$scratch/work/$copy_one"
    done
    need_key_readable
    if ! (cd "$scratch/work" && with_key ca -batch -notext -config openssl.cnf -keyfile "$dir/ca.key" "$@") \
        >"$scratch/ca.out" 2>&1; then
        grep -v '^Using configuration' "$scratch/ca.out" >&2 || :
        fail "$dir" "openssl ca to do it" "an error, see above"
    fi
}

# The terminal is asked before output is caught.
need_key_readable() {
    need_file "$dir/ca.key"
    if grep -q ENCRYPTED "$dir/ca.key" && [ -z "$passphrase_file" ]; then ask_passphrase; fi
}

# FILE...: files of the copy take their places, one after the other: the last makes it count.
commit() {
    for commit_one in "$@"; do
        install_quietly "$scratch/work/$commit_one" "$dir/$commit_one"
    done
}

# SOURCE TARGET: as install_file; what it belongs to was announced as a whole.
install_quietly() {
    if cmp -s "$1" "$2"; then return 0; fi
    create "$(new_name "$2")" <"$1"
    place "$(new_name "$2")" "$2" 0600 ''
}

# EXTENSIONS ARGUMENT...: signs, and commits number, certificate, request, and the index last: what
# the index does not name counts as never issued. Sets `issued`, the certificate's file.
# shellcheck disable=SC2034 # the verbs read `issued`
issue() {
    issue_serial=$(cat "$dir/serial")
    printf '%s\n' "$1" >"$scratch/work/extensions"
    shift
    on_copy -extfile extensions "$@"
    commit serial "issued/$issue_serial.pem"
    if [ -f "$scratch/work/issued/$issue_serial.csr" ]; then commit "issued/$issue_serial.csr"; fi
    commit index.txt
    issued="$dir/issued/$issue_serial.pem"
}

# SERIAL...: revoked in the index, all at once, and in a new list.
revoke_serials() {
    for revoke_one in "$@"; do
        change "revoke certificate $revoke_one" || continue
        # Each works on what the one before it left; index.txt is copied anew, so it is committed.
        on_copy -revoke "$dir/issued/$revoke_one.pem"
        commit index.txt
    done
    make_crl
}

# Does the list name exactly what the index does, and will it hold for a while?
crl_is_current() {
    [ -f "$dir/crl.pem" ] || return 1
    awk -F'\t' '$1 == "R" { print $4 }' "$dir/index.txt" | sort >"$scratch/revoked.index"
    openssl crl -in "$dir/crl.pem" -noout -text |
        sed -n 's/^ *Serial Number: *//p' | sort >"$scratch/revoked.list"
    cmp -s "$scratch/revoked.index" "$scratch/revoked.list" || return 1
    crl_end=$(openssl crl -in "$dir/crl.pem" -noout -nextupdate | as_epoch)
    # As for certificates: a new one in good time, when a third of its life is left.
    [ $(((crl_end - $(date +%s)) * 3)) -gt $((crl_life * 86400)) ]
}

make_crl() {
    if crl_is_current; then return 0; fi
    change "write $dir/crl.pem (0644)" || return 0
    on_copy -gencrl -crldays "$crl_life" -out crl.pem
    commit crlnumber
    create "$(new_name "$dir/crl.pem")" <"$scratch/work/crl.pem"
    place "$(new_name "$dir/crl.pem")" "$dir/crl.pem" 0644 ''
}
