# shellcheck shell=sh
# The site file: `key = value` lines from a closed list of keys, each value checked by its kind, as
# TOML of /etc/clearfilm/conf.d. Sourced by `render` after common.sh; errors name the line.
#
#   site = north                          [a-z0-9-], 1 to 32
#   broker = mqtts://broker.lan:8883      TLS always; a name or an IPv4 address
#   listen = 11112                        port of the DICOM receiver, 1024 to 65535
#   peer = DXROOM2 10.1.2.3,fe80::7       who may send, and from where; one line each
#   ae_title = CLEARFILM
#   dicom_tls = off                       off | server | mutual
#   room.north-dx-2 = Emergency 2         one line a device
#   receipts = archive,dashboard          consumers that confirm what they have
#   keep_images = 72h                     a number and s, m, h or d
#   free_min = 2GiB                       a number and MiB or GiB
#
# Lines that begin with # and empty lines say nothing. site, broker, listen and a peer are needed.

: "${scratch=}"

site_site='' site_broker='' site_listen='' site_ae_title='' site_dicom_tls='' site_receipts=''
site_keep_images='' site_free_min='' site_room='' site_peers='' site_any=0.0.0.0

# Largest file taken: a peer's line has some 40 bytes.
site_bytes=65536

# FILE UNIT SHOWN: reads it into the variables above; SHOWN is the file that errors name.
read_site() {
    [ "$(wc -c <"$1")" -le "$site_bytes" ] || refuse "$3" "at most $site_bytes bytes" "more"
    # Bytes above 127 are letters of other languages, in a room's name.
    if [ -n "$(tr -d '[:print:]\t\r\n\200-\377' <"$1" | head -c 1 | tr '\000' '?')" ]; then
        refuse "$3" "text" "control characters"
    fi
    tr -d '\r' <"$1" >"$scratch/site.lines"
    site_number=0 site_seen=' ' site_titles='|'
    while IFS= read -r site_line || [ -n "$site_line" ]; do
        site_number=$((site_number + 1))
        site_where="$3 line $site_number"
        case "$site_line" in
        '' | '#'*) continue ;;
        *=*) ;;
        *) refuse "$site_where" "key = value" "$site_line" ;;
        esac
        site_key=$(trim "${site_line%%=*}")
        once "$site_key"
        take_value "$site_key" "$(trim "${site_line#*=}")" "$2"
    done <"$scratch/site.lines"
    for site_key in site broker listen peer; do
        case "$site_seen" in
        *" $site_key "*) ;;
        *) refuse "$3" "a line $site_key = ..." "none" ;;
        esac
    done
}

trim() { printf '%s\n' "$1" | sed 's/^[ 	]*//;s/[ 	]*$//'; }

# KEY: refuses what stands there twice; only peers may.
once() {
    case "$site_seen" in
    *" $1 "*) [ "$1" = peer ] || refuse "$site_where" "the key $1 once" "it again" ;;
    esac
    site_seen="$site_seen$1 "
}

# VALUE EXPECTED PATTERN: an extended regular expression for the whole value.
match() {
    printf '%s\n' "$1" | grep -Eqx "$3" || refuse "$site_where" "$2" "$1"
}

# KEY VALUE UNIT
take_value() {
    case "$1" in
    site) match "$2" 'a site [a-z0-9-]{1,32}' '[a-z0-9-]{1,32}' && site_site=$2 ;;
    broker) take_broker "$2" ;;
    listen)
        is_number "$2" 1024 65535 || refuse "$site_where" "a port from 1024 to 65535" "$2"
        site_listen=$2
        ;;
    peer) take_peer "$2" ;;
    ae_title) check_title "$2" && site_ae_title=$2 ;;
    dicom_tls) match "$2" 'off, server or mutual' 'off|server|mutual' && site_dicom_tls=$2 ;;
    room.*)
        is_unit "${1#room.}" || refuse "$site_where" "room. and a device id" "$1"
        check_room "$2"
        if [ "$1" = "room.$3" ]; then site_room=$2; fi
        ;;
    receipts)
        match "$2" 'names [a-z0-9-]{1,32} divided by commas' '[a-z0-9-]{1,32}(,[a-z0-9-]{1,32})*'
        site_receipts=$2
        ;;
    keep_images) match "$2" 'a number and s, m, h or d' '[1-9][0-9]{0,5}[smhd]' && site_keep_images=$2 ;;
    free_min) match "$2" 'a number and MiB or GiB' '[1-9][0-9]{0,5}[MG]iB' && site_free_min=$2 ;;
    *) refuse "$site_where" "a known key" "$1" ;;
    esac
}

take_broker() {
    match "$1" 'mqtts://HOST or mqtts://HOST:PORT' 'mqtts://[a-z0-9.-]+(:[1-9][0-9]{0,4})?'
    take_host=${1#mqtts://}
    case "$take_host" in
    *:*) is_number "${take_host##*:}" 1 65535 || refuse "$site_where" "a port from 1 to 65535" "$1" ;;
    esac
    take_host=${take_host%:*}
    is_host_name "$take_host" || is_ipv4 "$take_host" ||
        refuse "$site_where" "a name or an IPv4 address" "$take_host"
    site_broker=$1
}

# PS3.5 6.2, VR AE; quotes are left out so that nothing needs escaping in TOML.
check_title() { match "$1" '1 to 16 characters of an AE title' '[] !#-[^-~]{1,16}'; }

# Free text in any language; without what would end a string of TOML.
check_room() {
    case "$1" in
    '' | *\"* | *\\*) refuse "$site_where" "a text without quote and backslash" "${1:-none}" ;;
    esac
    [ ${#1} -le 64 ] || refuse "$site_where" "at most 64 bytes" "${#1}"
}

# `AE TITLE 10.1.2.3,10.1.2.4`: a title may hold spaces, addresses do not.
take_peer() {
    take_addresses=${1##*[ 	]}
    take_title=$(trim "${1%"$take_addresses"}")
    [ -n "$take_title" ] || refuse "$site_where" "peer = AE_TITLE ADDRESS[,ADDRESS]" "$1"
    check_title "$take_title"
    # The service takes the first of two peers of one title, and would never look at the second.
    case "$site_titles" in
    *"|$take_title|"*) refuse "$site_where" "each AE title once" "$take_title again" ;;
    esac
    site_titles="$site_titles$take_title|"
    take_list=''
    for take_one in $(printf '%s' "$take_addresses" | tr , ' '); do
        is_address "$take_one" || refuse "$site_where" "an IPv4 or IPv6 address" "$take_one"
        # Of the system's two "any" addresses this one takes IPv4 too; not every system has it.
        if ! is_ipv4 "$take_one"; then site_any='[::]'; fi
        take_list="$take_list${take_list:+, }\"$take_one\""
    done
    [ -n "$take_list" ] || refuse "$site_where" "an address" "none"
    site_peers="$site_peers    { ae_title = \"$take_title\", addresses = [$take_list] },
"
}

# UNIT DIGEST: as TOML.
site_toml() {
    cat <<TEXT
# Rendered by \`render\` from the site file with SHA-256 $2.
# Change that file, not this one; settings of this device alone belong in a later file, 60-*.toml.

[unit]
site = "$site_site"
name = "$1"
TEXT
    [ -z "$site_room" ] || printf 'room = "%s"\n' "$site_room"
    printf 'secret_file = "/etc/clearfilm/site.key"\n'
    printf '\n[dicom]\npeers = [\n%s]\n' "$site_peers"
    # Every address of the machine: who is let in is decided by the firewall and by peers.
    printf '\n[dicom.scp]\nlisten = "%s:%s"\n' "$site_any" "$site_listen"
    [ -z "$site_ae_title" ] || printf 'ae_title = "%s"\n' "$site_ae_title"
    if [ -n "$site_dicom_tls" ] && [ "$site_dicom_tls" != off ]; then
        printf '\n[dicom.scp.tls]\nmode = "%s"\n' "$site_dicom_tls"
        site_toml_files dicom
    fi
    printf '\n[mqtt]\nurl = "%s"\n' "$site_broker"
    site_toml_files mqtt
    [ -z "$site_receipts" ] || printf 'receipts = ["%s"]\n' "$(printf '%s' "$site_receipts" | sed 's/,/", "/g')"
    if [ -n "$site_keep_images$site_free_min" ]; then printf '\n[storage]\n'; fi
    [ -z "$site_keep_images" ] || printf 'keep_images = "%s"\n' "$site_keep_images"
    [ -z "$site_free_min" ] || printf 'free_min = "%s"\n' "$site_free_min"
}

# KIND
site_toml_files() {
    printf 'cert_file = "/etc/clearfilm/tls/%s.crt"\nkey_file = "/etc/clearfilm/tls/%s.key"\n' "$1" "$1"
    printf 'ca_file = "/etc/clearfilm/tls/ca.pem"\n'
}
