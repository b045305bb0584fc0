# shellcheck shell=bash disable=SC2016 # the inner shell expands
# Revoking on the authority's machine.
: "${scripts:?}" "${T:?}" "${CA:?}"
K="$T/k"
mkdir "$K"
run ca init "$K/ca" --name "North CA"
for unit in north-dx-2 north-dx-22; do
    device "$K/$unit"
    run enrol --root "$K/$unit" --unit "$unit" --kind both
    for kind in mqtt dicom; do
        run ca sign "$K/ca" "$K/$unit/etc/clearfilm/tls/$kind.csr" --kind "$kind"
        cp "$T/out" "$K/$unit.$kind.crt"
    done
done
refused "a device without certificates is told" 4 "a certificate of north-dx-9" "$K/ca" revoke "$K/ca" north-dx-9
refused "what is neither file nor id is a matter of usage" 2 "device id" "$K/ca" revoke "$K/ca" 'x;y'
refused "another authority's certificate is refused" 4 "of this authority" "$K/ca" revoke "$K/ca" "$CA/ca.pem"
thrice "every certificate of a device is revoked" "$K/ca" revoke "$K/ca" north-dx-2
run ca list "$K/ca"
holds "both of its certificates, and no other's" sh -c '[ "$(grep -c "revoked .*/CN=north-dx-2$" "$1")" = 2 ] && [ "$(grep -c "valid .*/CN=north-dx-22$" "$1")" = 2 ]' sh "$T/out"
thrice "one certificate is revoked" "$K/ca" revoke "$K/ca" "$K/north-dx-22.mqtt.crt"
for one in north-dx-2.mqtt north-dx-2.dicom north-dx-22.mqtt; do
    holds "$one is refused by the list" sh -c '! openssl verify -crl_check -CAfile "$1/ca.pem" -CRLfile "$1/crl.pem" "$2"' sh "$K/ca" "$K/$one.crt"
done
holds "the other one is not" openssl verify -crl_check -CAfile "$K/ca/ca.pem" -CRLfile "$K/ca/crl.pem" "$K/north-dx-22.dicom.crt"
