# shellcheck shell=sh
# What `verify` looks at, one function a subject; each tells its results by `result`. Sourced after
# common.sh, certs.sh, config.sh and adopt.sh.
: "${root=}" "${scratch=}" "${now=}" "${tls_owner=}" "${key_mode=}" "${cert_mode=}"

# ok|warn|fail NAME VALUE EXPECTED: one line of the report. No field is empty or holds a space.
result() {
    result_line=$1
    shift
    for result_word in "$@"; do
        result_word=$(printf '%s' "${result_word:-none}" | tr -c '[:print:]' '?' | tr ' ' '_')
        result_line="$result_line $result_word"
    done
    printf '%s\n' "$result_line" >>"$scratch/report"
}

# NAME VALUE EXPECTED: ok where they are the same.
equal() { if [ "$2" = "$3" ]; then result ok "$@"; else result fail "$@"; fi; }

# --- files ---

# NAME PATH MODE OWNER: nothing is asked of the owner where names cannot be told.
mode_of() {
    if [ ! -e "$2" ]; then
        result fail "mode.$1" missing "$3:$4"
        return 0
    fi
    mode_value=$(stat -c %a "$2")
    if has "$2" "$3" "$4"; then
        result ok "mode.$1" "$3:$4" "$3:$4"
    else
        result fail "mode.$1" "0$mode_value:$(stat -c %u:%g "$2")" "$3:$4"
    fi
}

check_modes() {
    etc="$root/etc/clearfilm"
    mode_of etc "$etc" 0755 root:root
    mode_of config.toml "$etc/config.toml" 0640 root:clearfilm
    mode_of conf.d "$etc/conf.d" 0750 root:clearfilm
    mode_of 50-site.toml "$etc/conf.d/50-site.toml" 0640 root:clearfilm
    mode_of tls "$(tls_folder)" 0750 "$tls_owner"
    mode_of site.key "$etc/site.key" 0600 clearfilm:clearfilm
    mode_of storage "$root/var/lib/clearfilm" 0700 clearfilm:clearfilm
    # Also keys that wait or were replaced: they are as good as the one in use.
    for check_file in "$(tls_folder)"/*.key "$(tls_folder)"/*.key.*; do
        if [ -f "$check_file" ]; then mode_of "$(basename "$check_file")" "$check_file" "$key_mode" "$tls_owner"; fi
    done
    for check_file in "$(tls_folder)"/*.crt "$(tls_folder)"/ca.pem; do
        if [ -f "$check_file" ]; then mode_of "$(basename "$check_file")" "$check_file" "$cert_mode" "$tls_owner"; fi
    done
}

check_secret() {
    secret=$(effective unit.secret_file)
    [ -n "$secret" ] || secret="$(effective storage.path)/site.key"
    equal secret.file "$secret" /etc/clearfilm/site.key
    if [ "$(grep -Ecx '[0-9a-f]{64}' "$root$secret" 2>/dev/null)" = 1 ]; then
        result ok secret.content 64-hex-digits 64-hex-digits
    else
        result fail secret.content malformed-or-missing 64-hex-digits
    fi
}

# --- certificates ---

# KIND UNIT: only where the configuration uses it.
check_certificate_of() {
    cert="$(tls_folder)/$1.crt" key="$(tls_folder)/$1.key"
    if ! openssl x509 -in "$cert" -noout 2>/dev/null; then
        result fail "cert.$1" missing-or-damaged "$cert"
        return 0
    fi
    take_apart "$cert" "$scratch/leaf.pem" "$scratch/rest.pem"
    equal "cert.$1.name" "$(common_name x509 "$cert")" "$2"
    if same_key x509 "$cert" key "$key"; then
        result ok "cert.$1.key" matches matches
    else
        result fail "cert.$1.key" "another's" matches
    fi
    if has_usage "$cert" "$1"; then
        result ok "cert.$1.usage" "$(purposes_of "$1")" "$(purposes_of "$1")"
    else
        result fail "cert.$1.usage" "$(extended_usage "$cert")" "$(purposes_of "$1")"
    fi
    # At the time asked for; that it has ended is told by the days.
    if check_chain "$scratch/leaf.pem" "$scratch/rest.pem" "$(tls_folder)/ca.pem"; then
        result ok "cert.$1.chain" verified verified
    else
        chain_why=$(chain_error "$scratch/leaf.pem" "$scratch/rest.pem" "$(tls_folder)/ca.pem")
        result fail "cert.$1.chain" "${chain_why:-error}" verified
    fi
    check_days "$1" "$cert"
}

# KIND CERT: a month is time for a request by post, a week is not.
check_days() {
    days=$(days_left "$2" "$now")
    if [ "$days" -lt 7 ]; then
        result fail "cert.$1.days" "$days" ">=30"
    elif [ "$days" -lt 30 ]; then
        result warn "cert.$1.days" "$days" ">=30"
    else
        result ok "cert.$1.days" "$days" ">=30"
    fi
}

# --- the machine ---

# Ports that listen for others than this machine, from /proc/net/tcp and tcp6: state 0A, addresses
# in hexadecimal, 32-bit words in the machine's order (x86 and ARM: little endian).
open_ports() {
    cat "$root/proc/net/tcp" "$root/proc/net/tcp6" 2>/dev/null | awk '
        function number(hex, i, n) {
            for (i = 1; i <= length(hex); i++) n = n * 16 + index("123456789ABCDEF", substr(hex, i, 1))
            return n
        }
        $4 == "0A" {
            split($2, at, ":")
            if (at[1] ~ /^......7F$/ || at[1] ~ /^0000000000000000FFFF0000......7F$/) next
            if (at[1] == "00000000000000000000000001000000") next
            print number(at[2])
        }' | sort -nu | paste -s -d, -
}

# Those that may be: the receiver's, pages where they are not for this machine alone, and EXTRA.
check_ports() {
    for check_key in dicom.scp.listen http.listen telemetry.metrics; do
        check_value=$(effective "$check_key")
        case "$check_value" in
        '' | 127.* | '[::1]:'*) ;;
        *) printf '%s\n' "$check_value" | port_of ;;
        esac
    done >"$scratch/ports"
    for check_value in "$@"; do echo "$check_value"; done >>"$scratch/ports"
    equal ports.open "$(open_ports)" "$(sort -nu "$scratch/ports" | paste -s -d, -)"
}

# SHA-256: the root of trust of updates; any where none is told. Only where the configuration uses it.
check_update_root() {
    [ -n "$(effective update.source)" ] || return 0
    root_file="$root$(effective update.root_file)"
    if [ ! -f "$root_file" ]; then
        result fail update.root missing "${1:-any}"
    else
        root_digest=$(sha256sum <"$root_file" | cut -d' ' -f1)
        equal update.root "$root_digest" "${1:-$root_digest}"
    fi
}

check_space() {
    free=$(df -Pk "$root/var/lib/clearfilm" 2>/dev/null | awk 'NR == 2 { print $4 }')
    least=$(effective storage.free_min | as_kib)
    if [ -n "$free" ] && [ -n "$least" ] && [ "$free" -gt "$least" ]; then
        result ok storage.free "${free}KiB" ">${least}KiB"
    else
        result fail storage.free "${free:-unknown}KiB" ">${least:-unknown}KiB"
    fi
}

check_unit_state() {
    unit_file="$root/lib/systemd/system/clearfilm.service"
    if [ -n "$root" ] || ! command -v systemctl >/dev/null 2>&1; then
        result warn unit.active not-looked-at active
    else
        equal unit.active "$(systemctl is-active clearfilm.service 2>/dev/null || :)" active
        unit_file=$(systemctl show -p FragmentPath --value clearfilm.service 2>/dev/null)
    fi
    # systemd before 250 cannot look at a file, only at a unit that it has loaded.
    score=$(systemd-analyze security --no-pager --offline=true "$unit_file" 2>/dev/null ||
        { [ -z "$root" ] && systemd-analyze security --no-pager clearfilm.service 2>/dev/null; } || :)
    score=$(printf '%s\n' "$score" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\) .*/\1/p')
    # 1.5: what the design asks of every unit of ours.
    if [ -z "$score" ]; then
        result warn unit.exposure not-looked-at "<=1.5"
    elif awk -v s="$score" 'BEGIN { exit !(s <= 1.5) }'; then
        result ok unit.exposure "$score" "<=1.5"
    else
        result fail unit.exposure "$score" "<=1.5"
    fi
}

check_system() {
    limit=$(sed -n 's/^SystemMaxUse=//p' "$root/etc/systemd/journald.conf.d/clearfilm.conf" 2>/dev/null || :)
    equal journald.limit "$limit" 500M
    if [ ! -f "$root/etc/nftables.d/clearfilm.nft" ]; then
        result fail firewall.file missing present
    elif [ -n "$root" ] || ! command -v nft >/dev/null 2>&1; then
        result warn firewall.loaded not-looked-at loaded
    elif nft list table inet clearfilm >/dev/null 2>&1; then
        result ok firewall.loaded loaded loaded
    else
        result warn firewall.loaded not-loaded loaded
    fi
    if [ -n "$root" ]; then return 0; fi
    synchronised=$(timedatectl show -p NTPSynchronized --value 2>/dev/null || :)
    if [ "$synchronised" = yes ]; then result ok clock "$synchronised" yes; else result warn clock "$synchronised" yes; fi
}
