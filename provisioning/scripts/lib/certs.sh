# shellcheck shell=sh
# Keys, requests and certificates, by openssl 1.1.1 to 3.5: making and reading them, and the checks
# that a certificate passes before a device uses it. Sourced after common.sh.
: "${root=}" "${scratch=}"

# Where a device keeps them. The service reads keys through its group; nobody else may.
tls_folder() { printf '%s/etc/clearfilm/tls\n' "$root"; }
tls_owner='root:clearfilm'
key_mode=0640
cert_mode=0644

# Without these options openssl also trusts every authority of the operating system, beside the
# ones that it is given: any public certificate would pass.
only_given='-no-CApath'
case "$(openssl version)" in
'OpenSSL 1.'*) ;;
*) only_given="$only_given -no-CAstore" ;;
esac

is_kind() { [ "$1" = mqtt ] || [ "$1" = dicom ]; }

# KIND: what a certificate of a device must be made for. DICOM nodes are both: they accept and call.
purposes_of() {
    case "$1" in
    mqtt) echo 'clientAuth' ;;
    dicom) echo 'serverAuth, clientAuth' ;;
    esac
}

# --- reading ---

# What is x509 for a certificate and req for a request, as openssl names them.

# x509|req FILE, or key FILE: the public key, PEM.
public_key() {
    case "$1" in
    key) openssl pkey -in "$2" -pubout 2>/dev/null ;;
    *) openssl "$1" -in "$2" -noout -pubkey 2>/dev/null ;;
    esac
}

# WHAT FILE WHAT FILE: do two hold the same public key?
same_key() {
    same_one=$(public_key "$1" "$2") && [ -n "$same_one" ] || return 1
    [ "$same_one" = "$(public_key "$3" "$4")" ]
}

# WHAT FILE: the one common name; nothing where there are none or several. One line an attribute,
# with control characters escaped, so that no value can pretend to be another attribute.
common_name() {
    openssl "$1" -in "$2" -noout -subject -nameopt multiline,-align 2>/dev/null | awk '
        /^ *commonName = / { sub(/^ *commonName = /, ""); name = $0; count++ }
        END { if (count == 1) print name }'
}

# WHAT FILE: subject alternative names as `DNS:a, IP Address:b`, or nothing.
alternative_names() {
    openssl "$1" -in "$2" -noout -text 2>/dev/null | awk '
        next_line { sub(/^ */, ""); print; exit }
        /^ *X509v3 Subject Alternative Name:/ { next_line = 1 }'
}

# CERT: what it may be used for, as openssl spells it.
extended_usage() {
    openssl x509 -in "$1" -noout -text 2>/dev/null | awk '
        next_line { sub(/^ */, ""); print; exit }
        /^ *X509v3 Extended Key Usage:/ { next_line = 1 }'
}

# CERT KIND
has_usage() {
    usages=", $(extended_usage "$1"),"
    case "$usages" in
    *', TLS Web Client Authentication,'*) ;;
    *) return 1 ;;
    esac
    [ "$2" = mqtt ] && return 0
    case "$usages" in
    *', TLS Web Server Authentication,'*) ;;
    *) return 1 ;;
    esac
}

# `notAfter=Nov 28 06:43:35 2026 GMT` on standard input as seconds since 1970. By awk: not every
# `date` reads openssl's form.
as_epoch() {
    awk '{
        sub(/^[^=]*=/, ""); split($3, clock, ":"); year = $4
        month = (index("JanFebMarAprMayJunJulAugSepOctNovDec", $1) + 2) / 3
        # Years that begin in March: the leap day is their last.
        if (month < 3) { month += 12; year-- }
        days = 365 * year + int(year / 4) - int(year / 100) + int(year / 400)
        days += int((153 * month - 457) / 5) + $2 - 719469
        printf "%.0f\n", days * 86400 + clock[1] * 3600 + clock[2] * 60 + clock[3]
    }'
}

# CERT start|end: seconds since 1970.
cert_time() { openssl x509 -in "$1" -noout "-${2}date" 2>/dev/null | as_epoch; }

# CERT NOW: whole days until it ends; negative where it has.
days_left() {
    days_end=$(cert_time "$1" end)
    awk -v s="$((days_end - $2))" 'BEGIN { d = int(s / 86400); print (s < 0 ? d - 1 : d) }'
}

# CERT NOW: is more than a third of its life left?
is_fresh() {
    fresh_start=$(cert_time "$1" start)
    fresh_end=$(cert_time "$1" end)
    [ $(((fresh_end - $2) * 3)) -gt $((fresh_end - fresh_start)) ]
}

# IN PREFIX: every certificate of a PEM file as PREFIX.1, PREFIX.2, ..., without text between.
split_pem() {
    awk -v prefix="$2" '
        /-----BEGIN CERTIFICATE-----/ { file = prefix "." ++count; inside = 1 }
        inside { sub(/\r$/, ""); print > file }
        /-----END CERTIFICATE-----/ { inside = 0; close(file) }' "$1"
}

# HOST...: names and addresses as alternative_names prints them.
names_of_hosts() {
    names_out=''
    for names_host in "$@"; do
        if is_host_name "$names_host"; then
            names_one="DNS:$names_host"
        elif is_ipv4 "$names_host"; then
            names_one="IP Address:$names_host"
        else
            names_one="IP Address:$(expand_ipv6 "$names_host")"
        fi
        names_out="$names_out${names_out:+, }$names_one"
    done
    printf '%s\n' "$names_out"
}

# --- making ---

# KEY: a private key that is made here and stays here, P-256.
make_key() {
    change "make key $1 ($key_mode${tls_owner:+ $tls_owner})" || return 0
    make_new=$(new_name "$1")
    rm -f "$make_new"
    # No command reads a secret: openssl draws it itself, and umask keeps the file to us alone.
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
        -pkeyopt ec_param_enc:named_curve -out "$make_new" 2>/dev/null ||
        fail "$1" "openssl to make a key" "an error"
    place "$make_new" "$1" "$key_mode" "$tls_owner"
}

# KEY REQUEST UNIT NAMES: a request for the key, where there is none like it yet. NAMES is as
# alternative_names prints them.
make_request() {
    if [ -f "$2" ] && same_key req "$2" key "$1" && [ "$(common_name req "$2")" = "$3" ] &&
        [ "$(alternative_names req "$2")" = "$4" ]; then
        return 0
    fi
    change "make request $2 ($cert_mode $tls_owner)" || return 0
    need_scratch
    {
        printf '[req]\nprompt = no\ndistinguished_name = name\n'
        [ -z "$4" ] || printf 'req_extensions = more\n'
        printf '[name]\nCN = %s\n' "$3"
        [ -z "$4" ] || printf '[more]\nsubjectAltName = %s\n' "$4" | sed 's/IP Address:/IP:/g'
    } >"$scratch/req.conf"
    openssl req -new -config "$scratch/req.conf" -key "$1" -sha256 -out "$(new_name "$2")" ||
        fail "$2" "openssl to make a request" "an error"
    place "$(new_name "$2")" "$2" "$cert_mode" "$tls_owner"
}

# --- checking ---

# CERT REST KEY KIND UNIT AUTHORITIES SHOWN: every reason why a device must not use a certificate.
# REST holds those that it is issued by, and may be empty; SHOWN is the file that errors name.
check_certificate() {
    openssl x509 -in "$1" -noout 2>/dev/null || refuse "$7" "a certificate, PEM" "something else"
    check_name=$(common_name x509 "$1")
    [ "$check_name" = "$5" ] || refuse "$7" "common name $5" "${check_name:-none or several}"
    same_key x509 "$1" key "$3" || refuse "$7" "a certificate of the key $3" "one of another key"
    if openssl x509 -in "$1" -noout -text | grep -q 'CA:TRUE'; then
        refuse "$7" "a certificate of a device" "one of an authority"
    fi
    has_usage "$1" "$4" ||
        refuse "$7" "extended key usage $(purposes_of "$4")" "$(extended_usage "$1")"
    check_now=$(date +%s)
    [ "$check_now" -ge "$(cert_time "$1" start)" ] ||
        refuse "$7" "one that is valid now, $(date -u)" "$(openssl x509 -in "$1" -noout -startdate)"
    [ "$check_now" -lt "$(cert_time "$1" end)" ] ||
        refuse "$7" "one that is valid now, $(date -u)" "$(openssl x509 -in "$1" -noout -enddate)"
    check_chain "$1" "$2" "$6" || refuse "$7" "a chain to $6" "$(chain_error "$1" "$2" "$6")"
}

# CERT REST AUTHORITIES [OPTION...]: openssl's words on a chain.
chain_report() {
    chain_cert=$1 chain_rest=$2 chain_ca=$3
    shift 3
    if [ -s "$chain_rest" ]; then set -- "$@" -untrusted "$chain_rest"; fi
    # shellcheck disable=SC2086 # only_given is one or two options
    openssl verify $only_given -purpose sslclient -CAfile "$chain_ca" "$@" "$chain_cert" 2>&1
}

check_chain() { chain_report "$@" >/dev/null; }

chain_error() { chain_report "$@" | sed -n 's/^error [0-9]* at [0-9]* depth lookup: *//p' | head -n 1; }
