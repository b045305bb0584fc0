# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Enrolment and rotation over EST against a responder that also misbehaves.
: "${scripts:?}" "${T:?}" "${CA:?}" "${here:?}"
need socat curl || return 0
S="$T/est"
start_responders "$S"
: "${url:?}" "${open:?}" "${boot:?}"
: >"$S/log"
boot=(--est "$url" --est-ca "$S/server-ca/ca.pem" --bootstrap-cert "$S/boot.crt" --bootstrap-key "$S/boot.key")

fresh() { rm -rf "$T/d" && device "$T/d" && d="$T/d" && tls="$d/etc/clearfilm/tls"; }
fresh
snapshot "$d" >"$T/before"
: >"$S/log"
expect "a dry run over EST says what would be done" 0 "would ask $url" enrol --root "$d" --unit north-dx-2 --kind mqtt "${boot[@]}" --dry-run
snapshot "$d" >"$T/after"
holds "and changes nothing" cmp "$T/before" "$T/after"
holds "and asks nobody" test ! -s "$S/log"
expect "a device enrols in one step" 0 "mqtt.crt" enrol --root "$d" --unit north-dx-2 --kind mqtt "${boot[@]}"
holds "its certificate is the site's, for its key" sh -c 'openssl verify -CAfile "$1/ca.pem" "$1/mqtt.crt" && [ "$(openssl x509 -in "$1/mqtt.crt" -noout -pubkey)" = "$(openssl pkey -in "$1/mqtt.key" -pubout)" ]' sh "$tls"
holds "the authorities are those of the responder" cmp "$tls/ca.pem" "$CA/ca.pem"
holds "it was asked as RFC 7030 says" grep -qx 'POST /.well-known/est/simpleenroll boot-maker application/pkcs10 base64' "$S/log"
: >"$S/log"
snapshot "$d" >"$T/before"
expect "a second run has nothing to do" 0 "nothing to do" enrol --root "$d" --unit north-dx-2 --kind mqtt "${boot[@]}"
snapshot "$d" >"$T/after"
holds "and changes nothing" cmp "$T/before" "$T/after"
holds "and asks nobody" test ! -s "$S/log"
fresh
expect "a password will do" 0 "mqtt.crt" enrol --root "$d" --unit north-dx-2 --kind mqtt --est "$open/.well-known/est/room" --est-ca "$S/server-ca/ca.pem" --user boot --password-file "$S/password"
holds "with a label in the path" grep -q 'POST /.well-known/est/room/simpleenroll boot ' "$S/log"
holds "the password is nowhere below the folder for temporary files" sh -c '! grep -rq canary "$1"' sh "$TMPDIR"

# SENTENCE CODE TEXT MODE [OPTION...]: the responder misbehaves; keys may be made, nothing else.
bad() {
    local sentence=$1 wanted=$2 text=$3
    echo "$4" >"$S/mode"
    shift 4
    fresh
    expect "$sentence" "$wanted" "$text" enrol --root "$d" --unit north-dx-2 --kind mqtt "$@"
    holds "$sentence: no certificate and no authority is kept" sh -c '[ ! -e "$1/mqtt.crt" ] && [ ! -e "$1/ca.pem" ]' sh "$tls"
    echo ok >"$S/mode"
}
bad "a refusal is told" 1 "found 403" "refuse" "${boot[@]}"
bad "a page of HTML is no certificate" 1 "text/html" "type" "${boot[@]}"
bad "garbage is no certificate" 4 "PKCS#7" "garbage" "${boot[@]}"
bad "another key's certificate is not taken" 4 "certificate of the key" "other" "${boot[@]}"
bad "an endless answer is cut off" 1 "at most 262144 bytes" "huge" "${boot[@]}"
: >"$S/log"
bad "an approval that takes too long is told" 1 "run this again later" "wait 9 30" "${boot[@]}" --est-wait 20
holds "without having waited: it asked once" test "$(grep -c POST "$S/log")" = 1
bad "a wait for days is not begun" 1 "run this again later" "wait 9 999999" "${boot[@]}"
bad "a server of another authority is not trusted" 1 "an answer" "ok" --est "$url" --est-ca "$CA/ca.pem" --bootstrap-cert "$S/boot.crt" --bootstrap-key "$S/boot.key"
bad "a server of another name is not trusted" 1 "an answer" "ok" --est "https://127.0.0.1:${url##*:}" --est-ca "$S/server-ca/ca.pem" --bootstrap-cert "$S/boot.crt" --bootstrap-key "$S/boot.key"
printf 'wrong password\n' >"$S/wrong"
bad "a wrong password is told" 1 "found 401" "ok" --est "$open" --est-ca "$S/server-ca/ca.pem" --user boot --password-file "$S/wrong"
bad "nobody at the port is told" 1 "an answer" "ok" --est "https://localhost:$(free_port)" --est-ca "$S/server-ca/ca.pem" --user boot --password-file "$S/wrong"
fresh
refused "http is refused" 2 "https://" "$d" enrol --root "$d" --unit north-dx-2 --kind mqtt --est "http://localhost" --est-ca "$CA/ca.pem"
refused "no authority for the server is refused" 2 "--est-ca" "$d" enrol --root "$d" --unit north-dx-2 --kind mqtt --est "$url"
echo 'wait 2 1' >"$S/mode"
expect "an approval is waited for" 0 "asking again in 1 s" enrol --root "$d" --unit north-dx-2 --kind mqtt "${boot[@]}"
holds "and comes" test -f "$tls/mqtt.crt"
# As if the operating system trusted the server: in a mount of our own, so that nobody else is hit.
if unshare -m true 2>/dev/null; then
    mkdir -p "$S/system"
    cp "$S/server-ca/ca.pem" "$S/system/$(openssl x509 -in "$S/server-ca/ca.pem" -noout -hash).0"
    holds "curl by itself would trust the system's authorities" unshare -m sh -c \
        'mount --bind "$1" /etc/ssl/certs && curl -q -sS --cacert "$2" -o /dev/null "$3/.well-known/est/cacerts"' sh "$S/system" "$CA/ca.pem" "$open"
    fresh
    : >"$S/log"
    # shellcheck disable=SC2086 # "busybox sh" is two words
    unshare -m sh -c 'mount --bind "$1" /etc/ssl/certs; shift; exec "$@"' sh "$S/system" \
        $SH "$scripts/enrol" --root "$d" --unit north-dx-2 --kind mqtt --est "$open" --est-ca "$CA/ca.pem" --user boot --password-file "$S/password" >"$T/all" 2>&1
    holds "the scripts do not: nobody was asked" test ! -s "$S/log"
else
    skip "the system's authorities and curl: no mount namespaces"
fi

# Rotation: the present certificate says who asks.
fresh
echo ok >"$S/mode"
echo dicom >"$S/kind"
expect "a dicom certificate over EST" 0 "dicom.crt" enrol --root "$d" --unit north-dx-2 --kind dicom --host dx2.lan "${boot[@]}"
cp "$tls/dicom.crt" "$T/old.crt"
again=(rotate --root "$d" --kind dicom --est "$url" --est-ca "$S/server-ca/ca.pem")
expect "with 397 days left nothing is rotated" 0 "nothing to do" "${again[@]}"
: >"$S/log"
expect "with fewer than asked for it is" 0 "change over" "${again[@]}" --before-days 398
holds "by the present certificate" grep -q 'POST /.well-known/est/simplereenroll north-dx-2 ' "$S/log"
holds "names go along" sh -c 'openssl x509 -in "$1/dicom.crt" -noout -text | grep -q DNS:dx2.lan' sh "$tls"
holds "the old one stays as .previous" cmp "$tls/dicom.crt.previous" "$T/old.crt"
holds "the pair matches" sh -c '[ "$(openssl x509 -in "$1/dicom.crt" -noout -pubkey)" = "$(openssl pkey -in "$1/dicom.key" -pubout)" ] && ! cmp -s "$1/dicom.key" "$1/dicom.key.previous"' sh "$tls"
expect "and then there is nothing to do" 0 "nothing to do" "${again[@]}"

# The responder itself, asked past the scripts: who may ask for what.
# REQUEST STATUS OPERATION URL [CURL-OPTION...]
asked() {
    local found
    found=$(openssl req -in "$1" -outform DER | base64 | curl -q -sS --cacert "$S/server-ca/ca.pem" -o /dev/null -w '%{http_code}' \
        -H 'Content-Type: application/pkcs10' --data-binary @- "${@:5}" "$4/.well-known/est/$3")
    [ "$found" = "$2" ] || { echo "expected $2, found $found" && return 1; }
}
mine=(--cert "$tls/dicom.crt" --key "$tls/dicom.key")
holds "a device that asks in its own name gets a certificate" asked "$S/other.csr" 200 simplereenroll "$url" "${mine[@]}"
holds "in another name it does not" asked "$S/boot.csr" 403 simplereenroll "$url" "${mine[@]}"
holds "without a certificate nobody asks again" asked "$S/other.csr" 401 simplereenroll "$open"
holds "what is no request is refused" sh -c '[ "$(curl -q -sS --cacert "$1" -o /dev/null -w "%{http_code}" -H "Content-Type: application/pkcs10" \
    --data-binary x --cert "$3/dicom.crt" --key "$3/dicom.key" "$2/.well-known/est/simpleenroll")" = 400 ]' sh "$S/server-ca/ca.pem" "$url" "$tls"
