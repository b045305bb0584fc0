# shellcheck shell=sh
# A certificate that came from an authority, by file or by EST, is checked and takes its place.
# Sourced after common.sh and certs.sh.
: "${scratch=}" "${cert_mode=}" "${tls_owner=}"

# FROM LEAF REST: the first certificate of a file, and those after it.
take_apart() {
    rm -f "$scratch"/part.*
    split_pem "$1" "$scratch/part"
    [ -f "$scratch/part.1" ] || refuse "$1" "a certificate, PEM" "something else"
    mv "$scratch/part.1" "$2"
    : >"$3"
    for take_one in "$scratch"/part.*; do
        if [ -f "$take_one" ]; then cat "$take_one" >>"$3"; fi
    done
}

# CA SHOWN: authorities in a form of our own, without text between, in $scratch/trusted.pem.
take_authorities() {
    take_apart "$1" "$scratch/ca.first" "$scratch/ca.rest"
    cat "$scratch/ca.first" "$scratch/ca.rest" >"$scratch/trusted.pem"
    rm -f "$scratch"/part.*
    split_pem "$scratch/trusted.pem" "$scratch/part"
    for take_one in "$scratch"/part.*; do
        openssl x509 -in "$take_one" -noout -text 2>/dev/null | grep -q 'CA:TRUE' ||
            refuse "$2" "certificates of authorities" "one that is none"
    done
}

# KIND: the other kind's certificate must not lose its authority: there is one file for both. That
# it has ended is no reason against this one.
check_other_kind() {
    adopt_kind=$1
    for other in mqtt dicom; do
        other_cert="$(tls_folder)/$other.crt"
        if [ "$other" = "$adopt_kind" ] || [ ! -f "$other_cert" ]; then continue; fi
        take_apart "$other_cert" "$scratch/other.leaf" "$scratch/other.rest"
        set -- "$scratch/other.leaf" "$scratch/other.rest" "$scratch/trusted.pem" -no_check_time
        check_chain "$@" || refuse --ca "the authority of $other_cert too" "$(chain_error "$@")"
    done
}

# KIND UNIT CERT CA SHOWN [SUFFIX]: checks and installs. With a suffix certificate and key are
# those of the next pair, which is not in use yet.
adopt() {
    need_scratch
    adopt_key="$(tls_folder)/$1.key${6-}" adopt_cert="$(tls_folder)/$1.crt${6-}"
    take_authorities "$4" "$4"
    take_apart "$3" "$scratch/leaf.pem" "$scratch/rest.pem"
    check_certificate "$scratch/leaf.pem" "$scratch/rest.pem" "$adopt_key" "$1" "$2" \
        "$scratch/trusted.pem" "$5"
    check_other_kind "$1"
    cat "$scratch/leaf.pem" "$scratch/rest.pem" >"$scratch/whole.pem"
    # Authorities first: a certificate in use is never without them.
    install_file "$scratch/trusted.pem" "$(tls_folder)/ca.pem" "$cert_mode" "$tls_owner"
    install_file "$scratch/whole.pem" "$adopt_cert" "$cert_mode" "$tls_owner"
}
