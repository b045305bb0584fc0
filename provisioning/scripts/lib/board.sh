# shellcheck shell=sh
# The backup of a board: what is in it, how it is sealed and opened. Sourced by `replace-board` after
# common.sh and certs.sh.
#
#   clearfilm-board 1 RECIPIENT CONTENT BODY        one line, then BODY's base64
#
# RECIPIENT is `passphrase`, or the SHA-256 of the recipient's certificate; CONTENT is the SHA-256 of
# what is inside, by which a second run sees that nothing has changed (it tells nothing: inside is a
# secret of 256 random bits); BODY that of the base64 lines, so that any damaged byte is noticed.
#
# What is inside is signed with the unit's own certificate (CMS), then encrypted: to a certificate
# (CMS, AES-256), or by a passphrase (AES-256, PBKDF2). The signature is what tells a forged backup:
# neither way of encrypting does by itself in all versions of openssl, and openssl takes keys of an
# HMAC as arguments only, which the list of processes shows.
: "${root=}" "${scratch=}" "${etc=}" "${tls=}" "${unit=}" "${to=}" "${key=}" "${key_passphrase=}"
: "${recipient=}" "${digest=}" "${only_given=}" "${passphrase_file=}" "${secret=}" "${backup=}" "${restore=}" "${ca=}" "${force=}"

# 600,000 rounds: OWASP's number for PBKDF2 with SHA-256 (2023).
board_cipher='enc -aes-256-cbc -md sha256 -pbkdf2 -iter 600000'

# Largest backup read; a real one has some kB.
board_bytes=1048576

# --- inside ---

# A line a file: `file NAME SHA-256 BASE64`. It goes from program to program and never to a disk.
payload() {
    printf 'clearfilm-board-content 1\nunit %s\n' "$unit"
    payload_file site.key "$secret"
    for payload_one in "$etc"/conf.d/*.toml; do
        if [ -f "$payload_one" ]; then payload_file "conf.d/$(basename "$payload_one")" "$payload_one"; fi
    done
    echo end
}

# NAME FILE
payload_file() {
    is_board_name "$1" || fail "$2" "a name of [A-Za-z0-9._-]" "another"
    printf 'file %s %s ' "$1" "$(sha256sum <"$2" | cut -d' ' -f1)"
    base64 <"$2" | tr -d '\n'
    echo
}

# NAME: what may be written: no path leads elsewhere, and nothing but settings and the secret.
is_board_name() {
    case "$1" in
    site.key) ;;
    conf.d/.* | conf.d/*[!A-Za-z0-9._-]*) return 1 ;;
    conf.d/*.toml) ;;
    *) return 1 ;;
    esac
}

# --- sealing ---

# FILE: who can open it.
recipient_of() {
    if grep -q 'BEGIN CERTIFICATE' "$1"; then
        openssl x509 -in "$1" -noout 2>/dev/null || refuse "$1" "a certificate, PEM" "something else"
        openssl x509 -in "$1" -noout -fingerprint -sha256 | sed 's/.*=//;s/://g' | tr A-F a-f
    else
        # ${#} of the line is never printed.
        [ "$(head -n 1 "$1" | tr -d '\r\n' | wc -c)" -ge 16 ] ||
            refuse "$1" "a certificate, or a passphrase of at least 16 characters" "neither"
        echo passphrase
    fi
}

encrypt() {
    if [ "$recipient" = passphrase ]; then
        # shellcheck disable=SC2086 # words of our own
        openssl $board_cipher -salt -pass "file:$to"
    else
        openssl cms -encrypt -binary -aes-256-cbc -outform DER "$to"
    fi
}

# Writes the new backup beside its place. That every program of the chain succeeded is seen from
# what came out of it, as a pipe tells only of the last.
seal() {
    payload | openssl cms -sign -binary -nodetach -md sha256 -signer "$tls/mqtt.crt" -inkey "$tls/mqtt.key" \
        -outform DER 2>"$scratch/error" | encrypt 2>>"$scratch/error" | base64 >"$scratch/body"
    # A signed and encrypted body is longer than its content.
    [ "$(base64 -d <"$scratch/body" | wc -c)" -gt "$(payload | wc -c)" ] ||
        fail "$backup" "openssl to sign and encrypt" "$(grep . "$scratch/error" | head -n 1)"
    {
        printf 'clearfilm-board 1 %s %s %s\n' "$recipient" "$digest" "$(sha256sum <"$scratch/body" | cut -d' ' -f1)"
        cat "$scratch/body"
    } | create "$(new_name "$backup")"
}

# --- opening ---

# FILE FIELD: a word of the first line.
head_field() { head -n 1 "$1" | head -c 512 | cut -d' ' -f"$2"; }

body() { tail -n +2 "$1" | base64 -d; }

# FILE: is every byte as it was written?
is_whole() {
    [ "$(wc -c <"$1")" -le "$board_bytes" ] || return 1
    head -n 1 "$1" | head -c 512 | grep -Eqx 'clearfilm-board 1 (passphrase|[0-9a-f]{64}) [0-9a-f]{64} [0-9a-f]{64}' || return 1
    [ "$(tail -n +2 "$1" | sha256sum | cut -d' ' -f1)" = "$(head_field "$1" 5)" ]
}

decrypt() {
    if [ -n "$passphrase_file" ]; then
        # shellcheck disable=SC2086 # words of our own
        openssl $board_cipher -d -pass "file:$passphrase_file"
    elif [ -n "$key_passphrase" ]; then
        openssl cms -decrypt -binary -inform DER -inkey "$key" -passin "file:$key_passphrase"
    else
        openssl cms -decrypt -binary -inform DER -inkey "$key"
    fi
}

# Certificates may have ended since: whether the signer was of this site then is what counts.
verify_signed() {
    # shellcheck disable=SC2086 # only_given is one or two options
    openssl cms -verify -binary -inform DER $only_given -CAfile "$ca" -purpose any -no_check_time \
        -signer "$scratch/signer.pem"
}

# Reads the content into `content`: a variable that is not handed on, never a file.
open_backup() {
    is_whole "$restore" || refuse "$restore" "a backup, undamaged" "a damaged one, or something else"
    case "$(head_field "$restore" 3)/${passphrase_file:+p}" in
    passphrase/p) ;;
    passphrase/) refuse "$restore" "a backup to a certificate" "one by a passphrase" ;;
    */p) refuse "$restore" "a backup by a passphrase" "one to a certificate" ;;
    esac
    unset content
    # Of a pipe only the last program's success is seen; the others leave a file.
    content=$({
        body "$restore" | decrypt || : >"$scratch/not-opened"
    } 2>"$scratch/error" | verify_signed 2>>"$scratch/error") || : >"$scratch/not-opened"
    [ ! -e "$scratch/not-opened" ] ||
        refuse "$restore" "a backup for this passphrase or key, signed by a unit of $ca" "another, or a forged one"
    [ "$(printf '%s\n' "$content" | tail -n 1)" = end ] ||
        refuse "$restore" "a whole backup" "one that is cut off"
    [ "$(printf '%s\n' "$content" | sha256sum | cut -d' ' -f1)" = "$(head_field "$restore" 4)" ] ||
        refuse "$restore" "the content that its first line names" "another"
    [ "$(printf '%s\n' "$content" | sed -n 2p)" = "unit $unit" ] ||
        refuse "$restore" "a backup of $unit" "$(printf '%s\n' "$content" | sed -n '2s/^unit //p')"
    board_signer=$(common_name x509 "$scratch/signer.pem")
    [ "$board_signer" = "$unit" ] || refuse "$restore" "the signature of $unit" "that of ${board_signer:-nobody}"
}

# Lines `NAME SHA-256`.
board_files() { printf '%s\n' "$content" | awk '$1 == "file" { print $2, $3 }'; }

# NAME: its bytes.
board_file() { printf '%s\n' "$content" | awk -v name="$1" '$1 == "file" && $2 == name { print $4 }' | base64 -d; }

digest_of() { if [ -f "$1" ]; then sha256sum <"$1" | cut -d' ' -f1; fi; }

# First everything is looked at, then everything is written.
restore_board() {
    for board_one in "$tls/mqtt.crt" "$tls/dicom.crt"; do
        if [ -f "$board_one" ] && [ "$(common_name x509 "$board_one")" != "$unit" ]; then
            refuse "$board_one" "no certificate of another unit than $unit" "one"
        fi
    done
    open_backup
    board_files >"$scratch/files"
    while read -r board_name board_digest; do
        is_board_name "$board_name" || refuse "$restore" "names of settings" "$board_name"
        if [ -f "$etc/$board_name" ] && [ "$(digest_of "$etc/$board_name")" != "$board_digest" ] && [ -z "$force" ]; then
            refuse "$etc/$board_name" "none, or what the backup holds; --force replaces it" "another"
        fi
    done <"$scratch/files"
    install_folder "$etc" 0755 root:root
    install_folder "$etc/conf.d" 0750 root:clearfilm
    while read -r board_name board_digest; do
        case "$board_name" in
        site.key) restore_file 0600 clearfilm:clearfilm ;;
        *) restore_file 0640 root:clearfilm ;;
        esac
    done <"$scratch/files"
}

# MODE OWNER: writes `board_name` and reads it again.
restore_file() {
    board_target="$etc/$board_name"
    if [ "$(digest_of "$board_target")" = "$board_digest" ]; then
        install_mode "$board_target" "$1" "$2"
        return 0
    fi
    change "write $board_target ($1 $2)" || return 0
    board_file "$board_name" | create "$(new_name "$board_target")"
    [ "$(digest_of "$(new_name "$board_target")")" = "$board_digest" ] ||
        refuse "$restore" "the bytes of $board_name that its digest names" "others"
    place "$(new_name "$board_target")" "$board_target" "$1" "$2"
    [ "$(digest_of "$board_target")" = "$board_digest" ] || fail "$board_target" "what was written" "other bytes"
}
