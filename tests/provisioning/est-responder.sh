#!/usr/bin/env bash
# A small EST responder (RFC 7030): one request on standard input, its answer on standard output.
# socat does TLS and starts it for each connection; est.sh says how.
#
#   EST_FOLDER   holds `mode`, which says how it misbehaves, and gets `log`: a line a request
#   EST_CA       the authority that signs, by the script `ca`; `kind` in the folder says for what
#
# socat tells whose certificate the client showed; without one, the name and password must be right.
set -u
: "${EST_FOLDER:?}" "${EST_CA:?}" "${EST_USER:?}" "${SH:?}" "${scripts:?}"
who=${SOCAT_OPENSSL_X509_COMMONNAME-}
by_certificate=$who
read -r how count after <"$EST_FOLDER/mode"

# STATUS TYPE BODY-FILE [HEADER...]: section 4: bodies are base64, and say so.
answer() {
    local status=$1 type=$2 body=$3
    shift 3
    printf 'HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64\r\n' "$status" "$type"
    printf 'Content-Length: %d\r\nConnection: close\r\n' "$(wc -c <"$body")"
    [ $# -eq 0 ] || printf '%s\r\n' "$@"
    printf '\r\n'
    cat "$body"
    exit 0
}

# STATUS [HEADER...]
refuse() {
    answer "$1" text/plain /dev/null "${@:2}"
}

# CERT...: section 4.1.3 and 4.2.3: PKCS#7 that holds certificates and nothing else.
certificates() {
    local one arguments=()
    for one in "$@"; do arguments+=(-certfile "$one"); done
    openssl crl2pkcs7 -nocrl -outform DER "${arguments[@]}" | base64 >"$mine/p7"
    answer '200 OK' 'application/pkcs7-mime; smime-type=certs-only' "$mine/p7"
}

# An answer without end, as far as the client can tell.
huge() {
    printf 'HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime\r\nTransfer-Encoding: chunked\r\n\r\n'
    local chunk i
    chunk=$(head -c 8192 /dev/zero | tr '\0' A)
    for i in $(seq 1000); do printf '2000\r\n%s\r\n' "$chunk" 2>/dev/null || return "$i"; done
    printf '0\r\n\r\n'
}

# Sections 4.2.1 and 4.2.2: what is wrong with a request before anybody looks into it.
check_request() {
    [ -n "$who" ] || refuse '401 Unauthorized' 'WWW-Authenticate: Basic realm="est"'
    case "$how" in
    wait)
        if [ "$count" -gt 0 ]; then
            echo "wait $((count - 1)) $after" >"$EST_FOLDER/mode"
            refuse '202 Accepted' "Retry-After: $after"
        fi
        ;;
    refuse) refuse '403 Forbidden' ;;
    type) answer '200 OK' text/html /dev/null ;;
    garbage)
        echo '!!!! this is no base64' >"$mine/garbage"
        answer '200 OK' application/pkcs7-mime "$mine/garbage"
        ;;
    esac
    [ "$type" = application/pkcs10 ] || refuse '415 Unsupported Media Type'
    base64 -d <"$mine/body" 2>/dev/null | openssl req -inform DER -out "$mine/csr" 2>/dev/null || refuse '400 Bad Request'
}

enrol() {
    check_request
    name=$(openssl req -in "$mine/csr" -noout -subject -nameopt multiline | sed -n 's/^ *commonName *= //p')
    # Section 4.2.2: who asks again may ask for nobody else.
    if [ "$operation" = simplereenroll ]; then
        [ -n "$by_certificate" ] || refuse '401 Unauthorized'
        [ "$name" = "$by_certificate" ] || refuse '403 Forbidden'
    fi
    # Somebody else's certificate in place of the one that was asked for.
    if [ "$how" = other ]; then cp "$EST_FOLDER/other.csr" "$mine/csr"; fi
    # shellcheck disable=SC2086 # "busybox sh" is two words
    $SH "$scripts/ca" sign "$EST_CA" "$mine/csr" --kind "$(cat "$EST_FOLDER/kind")" --unit "$name" ${EST_OPTIONS-} \
        >"$mine/crt" 2>"$EST_FOLDER/sign.log" || refuse '400 Bad Request'
    # The own certificate last: the order in PKCS#7 says nothing.
    certificates "$EST_CA/ca.pem" "$mine/crt"
}

mine=$(mktemp -d)
trap 'rm -rf "$mine"' EXIT
IFS=' ' read -r method path _
type='' encoding='' length=0
while IFS= read -r line && line=${line%$'\r'} && [ -n "$line" ]; do
    value=${line#*: }
    case "${line%%:*}" in
    [Cc]ontent-[Tt]ype) type=$value ;;
    [Cc]ontent-[Tt]ransfer-[Ee]ncoding) encoding=$value ;;
    [Cc]ontent-[Ll]ength) length=$value ;;
    [Aa]uthorization) [ "$value" != "Basic $(printf %s "$EST_USER" | base64 -w0)" ] || who=boot ;;
    esac
done
head -c "$length" >"$mine/body"
printf '%s %s %s %s %s\n' "$method" "$path" "${who:-nobody}" "${type:-none}" "${encoding:-none}" >>"$EST_FOLDER/log"
operation=${path##*/}
case "$method $operation" in
'GET cacerts') if [ "$how" = huge ]; then huge; else certificates "$EST_CA/ca.pem"; fi ;;
'POST simpleenroll' | 'POST simplereenroll') enrol ;;
*) refuse '404 Not Found' ;;
esac
