# shellcheck shell=sh
# Certificates over EST (RFC 7030) by curl: what the authorities are, a first certificate, the next
# one. Sourced after common.sh and certs.sh.
#
# The server is trusted only by the file of --est-ca: there is no trust on first use.
: "${scratch=}" "${taken=}"

est_url=''
est_ca=''
est_cert=''
est_key=''
est_user=''
est_password=''
est_wait=300 # seconds that a request may wait for somebody to approve it

# Real answers have some kB; chains with large keys some 20.
est_bytes=262144
# Longest request: a slow link needs 2 s for it.
est_seconds=60

est_help() {
    cat <<'TEXT'
  --est URL            https://HOST[:PORT], or with /.well-known/est/LABEL after it
  --est-ca FILE        PEM: the only authorities by which the server is trusted
  --bootstrap-cert F --bootstrap-key F    who we are, until there is a certificate
  --user NAME --password-file F           or so
  --est-wait SECONDS   longest wait for an approval (202), 300
TEXT
}

# Takes an option of EST; see common_option.
est_option() {
    taken=2
    case "$1" in
    --est) need_value "$@" && est_url=${2%/} ;;
    --est-ca) need_value "$@" && est_ca=$2 ;;
    --bootstrap-cert) need_value "$@" && est_cert=$2 ;;
    --bootstrap-key) need_value "$@" && est_key=$2 ;;
    --user) need_value "$@" && est_user=$2 ;;
    --password-file) need_value "$@" && est_password=$2 ;;
    --est-wait) need_value "$@" && est_wait=$2 ;;
    *) taken=0 ;;
    esac
}

# Are the options complete, and what they should be?
est_check_options() {
    if ! printf '%s\n' "$est_url" | grep -Eqx 'https://[]A-Za-z0-9.:[-]+(/\.well-known/est/[A-Za-z0-9_-]+)?'; then
        usage --est 'https://HOST[:PORT][/.well-known/est/LABEL]' "$est_url"
    fi
    [ -n "$est_ca" ] || usage --est "--est-ca with it" "none"
    is_number "$est_wait" 0 86400 || usage --est-wait "0 to 86400" "$est_wait"
    case "$est_user" in
    *[!A-Za-z0-9._@-]*) usage --user "a name of [A-Za-z0-9._@-]" "$est_user" ;;
    esac
    case "${est_cert:+cert}${est_key:+key} ${est_user:+user}${est_password:+password}" in
    'certkey ' | ' userpassword') ;;
    *) usage --est "--bootstrap-cert and --bootstrap-key, or --user and --password-file" "others" ;;
    esac
    for est_file in "$est_ca" "$est_cert" "$est_key" "$est_password"; do
        if [ -n "$est_file" ]; then need_file "$est_file"; fi
    done
    need_program curl
}

# Options for curl that hold a secret: over its standard input, for the list of processes shows
# arguments to everybody.
est_secrets() {
    if [ -n "$est_password" ]; then
        sed -n '1{s/\r$//;s/[\\"]/\\&/g;s/.*/user = "'"$est_user"':&"/;p;}' "$est_password"
    fi
}

# OPERATION [CURL-OPTION...]: one request. Its body is in $scratch/est.body, its head in est.head;
# prints the status and the content type.
est_request() {
    est_base=$est_url
    case "$est_base" in
    */.well-known/est/*) ;;
    *) est_base="$est_base/.well-known/est" ;;
    esac
    est_operation=$1
    shift
    if [ -n "$est_cert" ]; then set -- "$@" --cert "$est_cert" --key "$est_key"; fi
    mkdir -p "$scratch/none"
    rm -f "$scratch/est.body" "$scratch/est.head"
    # -q: nobody's .curlrc. --capath: curl would also trust the system's folder of authorities.
    # ulimit: curl before 8.4 does not apply --max-filesize where no length is told; 512-byte blocks.
    est_secrets | (
        ulimit -f $((est_bytes / 512))
        curl -q --config - -sS --proto =https --tlsv1.2 --cacert "$est_ca" --capath "$scratch/none" \
            --connect-timeout 10 --max-time "$est_seconds" --max-filesize "$est_bytes" \
            -o "$scratch/est.body" -D "$scratch/est.head" -w '%{http_code} %{content_type}\n' \
            "$@" "$est_base/$est_operation" 2>"$scratch/est.error"
    )
}

# OPERATION STATUS-LINE: certificates of an answer as PEM in $scratch/est.pem.
est_certificates() {
    case "$2" in
    '200 application/pkcs7-mime'*) ;;
    *) fail "$est_url $1" "status 200 with application/pkcs7-mime" "${2:-nothing}" ;;
    esac
    tr -d ' \r\n' <"$scratch/est.body" | base64 -d 2>/dev/null |
        openssl pkcs7 -inform DER -print_certs -out "$scratch/est.pem" 2>/dev/null || : >"$scratch/est.pem"
    grep -q 'BEGIN CERTIFICATE' "$scratch/est.pem" ||
        refuse "$est_url $1" "PKCS#7 with certificates, base64" "something else"
}

# OPERATION: what curl or the shell said, in one line.
est_failed() {
    est_reason=$(head -n 1 "$scratch/est.error")
    fail "$est_url $1" "an answer of at most $est_bytes bytes within $est_seconds s" \
        "${est_reason:-an error}"
}

# Authorities of the site, PEM, in the file given: those that issue themselves.
est_authorities() {
    est_status=$(est_request cacerts) || est_failed cacerts
    est_certificates cacerts "$est_status"
    split_pem "$scratch/est.pem" "$scratch/est.ca"
    : >"$1"
    for est_one in "$scratch"/est.ca.*; do
        if [ "$(openssl x509 -in "$est_one" -noout -issuer | cut -d= -f2-)" = \
            "$(openssl x509 -in "$est_one" -noout -subject | cut -d= -f2-)" ]; then
            cat "$est_one" >>"$1"
        fi
    done
    [ -s "$1" ] || refuse "$est_url cacerts" "an authority that issues itself" "none"
}

# Seconds to wait by the last answer; a date, or nothing, counts as a minute.
est_pause() {
    est_after=$(tr -d '\r' <"$scratch/est.head" | sed -n 's/^[Rr]etry-[Aa]fter: *//p' | tail -n 1)
    if is_number "$est_after" 1 99999999; then echo "$est_after"; else echo 60; fi
}

# OPERATION REQUEST KEY CERT: the certificate for a request, with those that it is issued by.
est_enrol() {
    openssl req -in "$2" -outform DER | base64 >"$scratch/est.request"
    est_waited=0
    while :; do
        est_status=$(est_request "$1" -H 'Content-Type: application/pkcs10' \
            -H 'Content-Transfer-Encoding: base64' --data-binary "@$scratch/est.request") ||
            est_failed "$1"
        case "$est_status" in
        202*) ;;
        *) break ;;
        esac
        est_next=$(est_pause)
        est_waited=$((est_waited + est_next))
        [ "$est_waited" -le "$est_wait" ] ||
            fail "$est_url $1" "an approval within $est_wait s" "none: run this again later"
        warn "$est_url $1: to be approved; asking again in $est_next s"
        sleep "$est_next"
    done
    est_certificates "$1" "$est_status"
    est_own_first "$1" "$3" "$4"
}

# OPERATION KEY CERT: the certificate of the key, then the others, whatever their order was.
est_own_first() {
    rm -f "$scratch"/est.got.*
    split_pem "$scratch/est.pem" "$scratch/est.got"
    est_own='' est_others=''
    for est_one in "$scratch"/est.got.*; do
        if same_key x509 "$est_one" key "$2"; then
            est_own=$est_one
        else
            est_others="$est_others $est_one"
        fi
    done
    [ -n "$est_own" ] || refuse "$est_url $1" "a certificate of the key $2" "others"
    # shellcheck disable=SC2086 # a list of our own file names
    cat "$est_own" $est_others >"$3"
}
