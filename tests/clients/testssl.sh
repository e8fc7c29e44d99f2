#!/usr/bin/env bash
# N5: testssl.sh, a stranger's audit of TLS, finds nothing of severity medium or above.
set -euo pipefail
: "${GATEWARD:?the built binary}"
work=$(mktemp -d)
gateway=
trap '[[ -z $gateway ]] || kill "$gateway"; rm -rf "$work"' EXIT
cd "$work"

# A certificate as an authority of today would sign it: short, and with a place where revocations are told.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Test Authority' \
    -keyout ca.key -out ca.pem 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=gateward.test -keyout api.key -out api.csr 2>/dev/null
printf '%s\n' 'subjectAltName = DNS:gateward.test' 'extendedKeyUsage = serverAuth' \
    'crlDistributionPoints = URI:http://127.0.0.1/none.crl' >api.ext
openssl x509 -req -in api.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -extfile api.ext -out api.pem 2>/dev/null

read -r port admin < <(python3 -c 'import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in sockets))')
cat >gateway.toml <<TOML
[[listener]]
name = "public"
address = "127.0.0.1:$port"
tls = { certificates = [{ cert_file = "api.pem", key_file = "api.key" }] }
[admin]
address = "127.0.0.1:$admin"
[[api]]
upstream = "http://127.0.0.1:9"
contract = "native"
TOML
"$GATEWARD" serve --config gateway.toml >access.log 2>stderr.log &
gateway=$!
for _ in {1..200}; do
    ! curl -fs "http://127.0.0.1:$admin/readyz" >/dev/null || break
    sleep 0.05
done

# Its exit code counts findings of any kind; what they are stands in the file.
testssl --quiet --warnings off --color 0 -n none --ip 127.0.0.1 --add-ca ca.pem --severity MEDIUM --jsonfile found.json \
    "gateward.test:$port" >testssl.log 2>&1 || true
python3 - <<'PYTHON'
import json
import pathlib
import sys

said = pathlib.Path("testssl.log").read_text()
found = json.loads(pathlib.Path("found.json").read_text())
if "TLS 1.3    offered (OK)" not in said or "Done " not in said:
    sys.exit(f"it did not come to its end:\n{said}")
for finding in found:
    print("FAILED", finding["severity"], finding["id"], finding["finding"])
sys.exit(1 if found else 0)
PYTHON
echo '1 passed'
