# shellcheck shell=sh
# The device's packet filter as an nftables file, from the configuration that is in force: in come
# the senders, out go broker, update host, names and time, and nothing else. Sourced by `install`
# after common.sh and config.sh.
: "${root=}" "${scratch=}"

ssh_from=''
est_host=''
broker_at=''

# Takes an option; see common_option.
# shellcheck disable=SC2034 # the verb reads `taken`
firewall_option() {
    taken=2
    case "$1" in
    --ssh-from) need_value "$@" && check_range "$2" && ssh_from="$ssh_from $2" ;;
    --est-host) need_value "$@" && check_target "$@" && est_host=$2 ;;
    --broker-address) need_value "$@" && check_ipv4 "$@" && broker_at="$broker_at${broker_at:+, }$2" ;;
    *) taken=0 ;;
    esac
}

check_range() {
    case "$1" in
    */*) is_number "${1#*/}" 0 128 || usage --ssh-from "ADDRESS/BITS" "$1" ;;
    esac
    is_address "${1%%/*}" || usage --ssh-from "an address, or ADDRESS/BITS" "$1"
}

# OPTION HOST[:PORT]; the host is a name or an IPv4 address.
check_target() {
    case "$2" in
    *:*) is_number "${2##*:}" 1 65535 || usage "$1" "HOST or HOST:PORT" "$2" ;;
    esac
    is_host_name "${2%:*}" || is_ipv4 "${2%:*}" || usage "$1" "HOST or HOST:PORT" "$2"
}

check_ipv4() { is_ipv4 "$2" || usage "$1" "an IPv4 address" "$2"; }

# WHAT HOST PORT: lets out. A name cannot stand in the rules: nft would ask for its address while
# the machine starts, and without an answer load no rules at all. So a name means its port alone.
out_rule() {
    if is_ipv4 "$2"; then
        printf '        ip daddr %s tcp dport %s accept comment "%s"\n' "$2" "$3" "$1"
    elif [ "$1" = broker ] && [ -n "$broker_at" ]; then
        printf '        ip daddr { %s } tcp dport %s accept comment "%s"\n' "$broker_at" "$3" "$1"
    else
        printf '        tcp dport %s accept comment "%s %s: by its port, for its address can change"\n' \
            "$3" "$1" "$2"
    fi
}

# WHAT [SCHEME://]HOST[:PORT][/PATH] PORT: the last one where none is told.
out_url() {
    out_host=${2#*://}
    out_host=${out_host%%/*}
    out_port=$3
    case "$out_host" in
    *:*) out_port=${out_host##*:} out_host=${out_host%:*} ;;
    esac
    out_host=$(printf '%s\n' "$out_host" | tr "[:upper:]" "[:lower:]")
    if is_number "$out_port" 1 65535 && { is_host_name "$out_host" || is_ipv4 "$out_host"; }; then
        out_rule "$1" "$out_host" "$out_port"
    else
        warn "$2: no name or IPv4 address, so the firewall does not let $1 out"
    fi
}

# 4|6: of the addresses on standard input, those of one family, divided by commas.
family() {
    while IFS= read -r family_one; do
        family_plain=${family_one%%/*}
        if [ "$1" = 4 ] && is_ipv4 "$family_plain"; then echo "$family_one"; fi
        if [ "$1" = 6 ] && ! is_ipv4 "$family_plain"; then echo "$family_one"; fi
    done | paste -s -d, - | sed 's/,/, /g'
}

# PORT WHAT: lets in those whose addresses are on standard input.
in_rules() {
    cat >"$scratch/from"
    in_four=$(family 4 <"$scratch/from")
    in_six=$(family 6 <"$scratch/from")
    [ -z "$in_four" ] || printf '        ip saddr { %s } tcp dport %s accept comment "%s"\n' "$in_four" "$1" "$2"
    [ -z "$in_six" ] || printf '        ip6 saddr { %s } tcp dport %s accept comment "%s"\n' "$in_six" "$1" "$2"
}

# The file, from $scratch/effective.
firewall_rules() {
    cat <<'TEXT'
# Rendered by `install` from /etc/clearfilm; changes here are lost at its next run.
# The first two lines make the file replace its own rules, at once and nobody else's.
table inet clearfilm
delete table inet clearfilm
table inet clearfilm {
TEXT
    input_chain
    output_chain
    echo '}'
}

input_chain() {
    cat <<'TEXT'
    chain input {
        type filter hook input priority filter; policy drop;
        iif "lo" accept
        ct state established,related accept
        ct state invalid drop
        meta l4proto { 1, 58 } accept comment "ICMP; by number, for small systems have no /etc/protocols"
        udp sport 67 udp dport 68 accept comment "an address by DHCP"
        udp sport 547 udp dport 546 accept comment "an address by DHCPv6"
TEXT
    peer_addresses | in_rules "$(effective dicom.scp.listen | port_of)" "DICOM, with or without TLS"
    printf '%s\n' "$ssh_from" | tr ' ' '\n' | sed '/^$/d' | in_rules 22 "ssh"
    echo '    }'
}

output_chain() {
    cat <<'TEXT'
    chain output {
        type filter hook output priority filter; policy drop;
        oif "lo" accept
        ct state established,related accept
        meta l4proto { 1, 58 } accept comment "ICMP; by number, for small systems have no /etc/protocols"
        udp sport 68 udp dport 67 accept
        udp sport 546 udp dport 547 accept
        udp dport { 53, 123 } accept comment "names, time"
        tcp dport 53 accept
TEXT
    out_url broker "$(effective mqtt.url)" 8883
    # Where there is a proxy, nobody else is asked.
    output_update=$(effective update.proxy)
    [ -n "$output_update" ] || output_update=$(effective update.source)
    case "$output_update" in
    http:*) out_url update "$output_update" 80 ;;
    https:*) out_url update "$output_update" 443 ;;
    esac
    [ -z "$est_host" ] || out_url est "$est_host" 443
    echo '    }'
}

# What the rules leave out of what the service would let in.
firewall_warnings() {
    [ -n "$ssh_from" ] || warn "ssh: the rules let nobody log in by it; --ssh-from says who may"
    if [ "$(effective dicom.scp.unknown_peers)" = accept ]; then
        warn "dicom.scp.unknown_peers: accept, but the firewall lets in listed addresses only"
    fi
    if effective dicom.peers | grep -q '{ ae_title = "[^"]*" }'; then
        warn "dicom.peers: one has no address, so the firewall keeps it out"
    fi
}
