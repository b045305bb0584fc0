# shellcheck shell=sh
# `ca init`: makes an authority. Each file is made where it is not there yet, the index last: with
# it the authority counts as made. Sourced after authority.sh.
: "${scratch=}" "${dir=}" "${passphrase_file=}"

# NAME ENCRYPTED: the folder is `dir`.
init() {
    # The name stands in a configuration file of openssl, where $ and \ mean something.
    case "$1" in
    '' | *[!A-Za-z0-9\ ._-]* | ' '* | *' ') usage --name "a text of [A-Za-z0-9 ._-]" "${1:-none}" ;;
    esac
    [ ${#1} -le 64 ] || usage --name "at most 64 characters" "${#1}"
    install_folder "$dir" 0700 ''
    alone "$dir"
    need_scratch
    if [ -f "$dir/ca.pem" ]; then
        init_found=$(common_name x509 "$dir/ca.pem")
        [ "$init_found" = "$1" ] || refuse "$dir" "no authority yet, or $1" "${init_found:-another}"
    fi
    settings "$1" >"$scratch/openssl.cnf"
    install_file "$scratch/openssl.cnf" "$dir/openssl.cnf" 0600 ''
    if [ ! -f "$dir/ca.key" ]; then make_ca_key "$2"; fi
    if [ ! -f "$dir/ca.pem" ]; then make_ca_cert; fi
    first_numbers
}

# NAME: what `openssl ca` reads. Paths are relative, for it is run in a copy.
settings() {
    cat <<TEXT
# Written by \`ca init\`. What a certificate says is decided by the script; nothing is taken over
# from a request but its name and key.
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
string_mask = utf8only
[name]
CN = $1
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
TEXT
    cat <<'TEXT'
[ca]
default_ca = here
[here]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = issued
certificate = ca.pem
default_md = sha256
string_mask = utf8only
unique_subject = no
email_in_dn = no
copy_extensions = none
policy = device
crl_extensions = list
[list]
authorityKeyIdentifier = keyid
TEXT
    printf '[device]\ncommonName = supplied\n'
    printf '[broker]\norganizationalUnitName = supplied\ncommonName = supplied\n'
}

# NAME TEXT: a file of the authority, where it is not there yet.
first() {
    [ ! -f "$dir/$1" ] || return 0
    printf '%s' "$2" >"$scratch/first"
    install_file "$scratch/first" "$dir/$1" 0600 ''
}

first_numbers() {
    install_folder "$dir/issued" 0700 ''
    # A random first serial says nothing about how many there are. Positive, hence the 4.
    first serial "4$(openssl rand -hex 8 | cut -c 2- | tr a-f A-F)
"
    first crlnumber '01
'
    first index.txt.attr 'unique_subject = no
'
    # Never an empty index beside certificates that were given out.
    if [ ! -f "$dir/index.txt" ] && ls "$dir"/issued/*.pem >/dev/null 2>&1; then
        fail "$dir/index.txt" "a file" "none"
    fi
    first index.txt ''
}

# ENCRYPTED
make_ca_key() {
    change "make key $dir/ca.key (0600)" || return 0
    rm -f "$(new_name "$dir/ca.key")"
    if [ -n "$1$passphrase_file" ]; then
        encrypted_key >"$(new_name "$dir/ca.key")"
    else
        plain_key >"$(new_name "$dir/ca.key")"
    fi || fail "$dir/ca.key" "openssl to make a key" "an error"
    place "$(new_name "$dir/ca.key")" "$dir/ca.key" 0600 ''
}

plain_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve
}

# 600,000 rounds: OWASP's number for PBKDF2 with SHA-256 (2023). genpkey alone would take 2,048.
encrypted_key() {
    set -- pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter 600000
    if [ -n "$passphrase_file" ]; then
        plain_key | openssl "$@" -passout "file:$passphrase_file"
        return
    fi
    ask_passphrase
    # As `passphrase`: not to be handed on.
    unset init_once
    init_once=$passphrase
    passphrase=''
    ask_passphrase
    [ "$init_once" = "$passphrase" ] || fail "$dir/ca.key" "the same passphrase twice" "two"
    # The key comes over standard input, so the passphrase over descriptor 3.
    printf '%s\n' "$passphrase" | { plain_key | openssl "$@" -passout fd:3; } 3<&0
}

make_ca_cert() {
    change "write $dir/ca.pem (0644)" || return 0
    # 3653 days: ten years.
    with_key req -new -x509 -config "$dir/openssl.cnf" -key "$dir/ca.key" -sha256 -days 3653 \
        -out "$(new_name "$dir/ca.pem")" || fail "$dir/ca.pem" "openssl to sign it" "an error"
    place "$(new_name "$dir/ca.pem")" "$dir/ca.pem" 0644 ''
}
