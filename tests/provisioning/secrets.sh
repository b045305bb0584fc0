# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Nothing secret in arguments, in the environment or in what is printed: every program that a verb
# starts is recorded by the kernel, with all of both.
: "${scripts:?}" "${T:?}" "${CA:?}" "${broker_port=}"
need root strace || return 0
X="$T/x"
device "$X"
broker_port=8883
rendered "$X" north-dx-2
printf 'canary-ca-passphrase\n' >"$T/ca.pass"
printf 'canary-board-passphrase\n' >"$T/board.pass"
: >"$T/exec" && : >"$T/said"
traced() {
    local verb=$1
    shift
    # shellcheck disable=SC2086 # "busybox sh" is two words
    strace -f -qq -v -s 100000 -e trace=execve -o "$T/exec.one" $SH "$scripts/$verb" "$@" >"$T/out" 2>"$T/err" </dev/null
    cat "$T/exec.one" >>"$T/exec"
    cat "$T/out" "$T/err" >>"$T/said"
}
traced ca init "$X/ca" --name North --passphrase-file "$T/ca.pass"
traced enrol --root "$X" --unit north-dx-2 --kind mqtt
traced ca sign "$X/ca" "$X/etc/clearfilm/tls/mqtt.csr" --kind mqtt --passphrase-file "$T/ca.pass"
cp "$T/out" "$T/x.crt"
traced enrol --root "$X" --import "$T/x.crt" --ca "$X/ca/ca.pem"
traced install --root "$X" --installed
traced verify --root "$X" --offline
traced rotate --root "$X" --kind mqtt --before-days 398
traced replace-board --root "$X" --backup "$X/board" --to "$T/board.pass"
traced replace-board --root "$X" --restore "$X/board" --unit north-dx-2 --ca "$X/ca/ca.pem" --passphrase-file "$T/board.pass"
traced revoke "$X/ca" north-dx-2 --passphrase-file "$T/ca.pass"
cp "$X/etc/clearfilm/site.key" "$T/x.secret"
{
    cat "$T/x.secret"
    echo canary-ca-passphrase
    echo canary-board-passphrase
    # Lines of keys, and what is inside them.
    for key in "$X"/etc/clearfilm/tls/*.key* "$X/ca/ca.key"; do grep -v -- ----- "$key"; done
} >"$T/canaries"
base64 -w0 <"$T/x.secret" | cut -c 1-60 >>"$T/canaries"
tr -d '\n' <"$T/x.secret" | base64 -w0 | cut -c 1-60 >>"$T/canaries"
holds "the recording has programs and their environment" sh -c '[ "$(grep -c "execve(" "$1")" -gt 300 ] && grep -q "openssl.*genpkey.*LC_ALL=C" "$1"' sh "$T/exec"
holds "no secret in arguments or environment" sh -c '! grep -F -f "$1" "$2"' sh "$T/canaries" "$T/exec"
holds "no secret is printed" sh -c '! grep -F -f "$1" "$2"' sh "$T/canaries" "$T/said"
holds "nor by any other part of the tests, of what they hold now" sh -c '! grep -F -f "$1" "$2"' sh "$T/canaries" "$T/everything"
export passphrase=from-outside content=from-outside
traced ca crl "$X/ca" --passphrase-file "$T/ca.pass"
traced replace-board --root "$X" --restore "$X/board" --unit north-dx-2 --ca "$X/ca/ca.pem" --passphrase-file "$T/board.pass"
unset passphrase content
holds "names of variables that come from outside carry nothing out" sh -c '! grep -F -f "$1" "$2"' sh "$T/canaries" "$T/exec.one"
# A key as the first byte of it is written: under its temporary name, by umask alone.
# shellcheck disable=SC2086 # "busybox sh" is two words
(umask 000 && strace -f -qq -e trace=openat,open -o "$T/open" $SH "$scripts/enrol" --root "$X" --unit north-dx-2 --kind dicom >/dev/null 2>&1)
holds "a key is private from its first byte, whatever the caller's umask" sh -c 'grep "dicom.key.new.*O_CREAT" "$1" | grep -Eq ", 0(600|666)\) = " && [ "$(stat -c %a "$2")" = 640 ]' sh "$T/open" "$X/etc/clearfilm/tls/dicom.key"
# shellcheck disable=SC2086 # "busybox sh" is two words
holds "the script sets its umask before that" sh -c 'strace -f -qq -e trace=umask "$@" 2>&1 | grep -q "umask(077)"' sh $SH "$scripts/enrol" --help
