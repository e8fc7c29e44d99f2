#!/usr/bin/env bash
# The clients of Infracast's documentation, unchanged but for host, secrets and the dates that have passed: curl, Python
# and JavaScript against the gateway, with deploy/examples/infracast.toml as it stands but for the ports, in front of
# httpbin, which echoes what it is sent.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
: "${GATEWARD:?the built binary}"
work=$(mktemp -d)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT

passed=0 failed=0
# check WHAT FOUND EXPECTED
check() {
    if [[ $2 == "$3" ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n  found    %s\n  expected %s\n' "$1" "$2" "$3"
    fi
}
at() { python3 "$here/at.py" "$@"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# until WHAT COMMAND...: tries for ten seconds
until_true() {
    local what=$1 tries
    shift
    for ((tries = 0; tries < 200; tries++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    printf '%s did not come\n' "$what"
    cat "$work"/*.log
    exit 1
}

upstream=$(free_port) port=$(free_port) admin=$(free_port)
sed -e "s/127.0.0.1:8080/127.0.0.1:$port/" -e "s/127.0.0.1:9000/127.0.0.1:$upstream/" \
    "$root/deploy/examples/infracast.toml" >"$work/gateway.toml"
printf '\n[admin]\naddress = "127.0.0.1:%s"\n' "$admin" >>"$work/gateway.toml"
gateward() { "$GATEWARD" --config "$work/gateway.toml" "$@"; }

export INFRACAST_HOST=http://127.0.0.1:$port INFRACAST_PASSWORD='correct horse battery'
printf '%s' "$INFRACAST_PASSWORD" | gateward user add admin --role admin --tenant my-tenant=admin \
    --email you@company.com --password-stdin --json >"$work/admin"
admin_id=$(at "$work/admin" id)

gunicorn --bind "127.0.0.1:$upstream" --workers 1 --threads 4 --log-level error httpbin:app >"$work/httpbin.log" 2>&1 &
pids+=($!)
gateward serve >"$work/access.log" 2>"$work/gateward.log" &
pids+=($!)
until_true httpbin curl -sf "http://127.0.0.1:$upstream/anything"
until_true gateward curl -sf "http://127.0.0.1:$admin/readyz"

# ── Getting a Token ─────────────────────────────────────────────────────────
curl -s -X POST "$INFRACAST_HOST/api/v1/auth/token" \
-H "Content-Type: application/json" \
-d '{
"username": "admin",
"password": "'"$INFRACAST_PASSWORD"'"
}' >"$work/token"
check 'login members' "$(at "$work/token" '?')" '["expires_at","refresh_token","token","user"]'
check 'user members' "$(at "$work/token" user '?')" '["email","id","roles","tenants","username"]'
check 'user id' "$(at "$work/token" user id)" "$admin_id"
check 'user roles' "$(at "$work/token" user roles)" '["admin"]'
TOKEN=$(at "$work/token" token)
REFRESH=$(at "$work/token" refresh_token)

# ── Using Tokens ────────────────────────────────────────────────────────────
# identity FILE WHAT METHOD: the echo shows who called and no credential
identity() {
    check "$2: path" "$(at "$1" url)" "http://127.0.0.1:$port/anything/api/v1/tenants/my-tenant/nodes"
    check "$2: user id" "$(at "$1" headers X-Auth-User-Id)" "$admin_id"
    check "$2: user name" "$(at "$1" headers X-Auth-Username)" admin
    check "$2: email" "$(at "$1" headers X-Auth-Email)" you@company.com
    check "$2: roles" "$(at "$1" headers X-Auth-Roles)" admin
    check "$2: tenant" "$(at "$1" headers X-Auth-Tenant)" my-tenant
    check "$2: method" "$(at "$1" headers X-Auth-Method)" "$3"
    check "$2: no credential" "$(at "$1" headers Authorization)" absent
}
curl -s -H "Authorization: Bearer $TOKEN" -H 'X-Auth-User-Id: root' -H 'X_Auth_User_Id: root' -H 'X-Auth-Key-Id: forged' \
    "$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes" >"$work/echo"
identity "$work/echo" curl jwt
check 'permissions' "$(at "$work/echo" headers X-Auth-Permissions)" 'admin:*'
check 'no key' "$(at "$work/echo" headers X-Auth-Key-Id)" absent

python3 "$here/infracast.py" >"$work/python"
check 'Python status' "$(at "$work/python" status)" 200
at "$work/python" body >"$work/python.body"
identity "$work/python.body" Python jwt

node "$here/infracast.mjs" >"$work/node"
check 'JavaScript status' "$(at "$work/node" status)" 200
at "$work/node" body >"$work/node.body"
identity "$work/node.body" JavaScript jwt

# ── Refreshing Tokens ───────────────────────────────────────────────────────
curl -s -X POST "$INFRACAST_HOST/api/v1/auth/refresh" \
-H "Content-Type: application/json" \
-d '{
"refresh_token": "'"$REFRESH"'"
}' >"$work/refresh"
check 'refresh members' "$(at "$work/refresh" '?')" '["expires_at","token"]'
ADMIN_TOKEN=$(at "$work/refresh" token)

# ── API Keys ────────────────────────────────────────────────────────────────
status=$(curl -s -o "$work/key" -w '%{http_code}' -X POST "$INFRACAST_HOST/api/v1/api-keys" \
-H "Authorization: Bearer $ADMIN_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"name": "ci-cd-integration",
"tenants": ["my-tenant"],
"permissions": ["nodes:read", "findings:read"],
"expires_at": "2999-03-16T00:00:00Z"
}')
check 'key status' "$status" 201
check 'key members' "$(at "$work/key" '?')" '["created_at","expires_at","id","key","name"]'
check 'key expiry' "$(at "$work/key" expires_at)" 2999-03-16T00:00:00Z
KEY=$(at "$work/key" key) KEY_ID=$(at "$work/key" id)
check 'key prefix' "${KEY:0:8}" ic_live_

curl -s -H "Authorization: Bearer $KEY" "$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes" >"$work/echo"
identity "$work/echo" key api_key
check 'key id' "$(at "$work/echo" headers X-Auth-Key-Id)" "$KEY_ID"
check 'key permissions' "$(at "$work/echo" headers X-Auth-Permissions)" nodes:read,findings:read

# ask STATUS BODY WHAT CURL-ARGUMENTS...
ask() {
    local status=$1 body=$2 what=$3
    shift 3
    check "$what: status" "$(curl -s -o "$work/answer" -w '%{http_code}' "$@")" "$status"
    check "$what: body" "$(cat "$work/answer")" "$body"
}
UNAUTHORIZED='{"error":{"code":"UNAUTHORIZED","message":"Invalid or expired token"}}'
FORBIDDEN='{"error":{"code":"FORBIDDEN","message":"Insufficient permissions"}}'
nodes=$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes
ask 401 "$UNAUTHORIZED" 'no token' "$nodes"
ask 401 "$UNAUTHORIZED" 'a wrong token' -H 'Authorization: Bearer eyJhbGciOiJIUzI1NiIs...' "$nodes"
ask 401 "$UNAUTHORIZED" 'a wrong environment' -H 'Authorization: Bearer ic_dev_abc123xyz789' "$nodes"
ask 403 "$FORBIDDEN" 'a permission that the key lacks' -X POST -H "Authorization: Bearer $KEY" "$nodes"
ask 403 "$FORBIDDEN" 'a tenant that the key lacks' -H "Authorization: Bearer $KEY" "$INFRACAST_HOST/api/v1/tenants/other/nodes"
ask 401 '{"error":{"code":"UNAUTHORIZED","message":"Invalid username or password"}}' 'a wrong password' \
    -H 'Content-Type: application/json' -d '{"username":"admin","password":"wrong"}' "$INFRACAST_HOST/api/v1/auth/token"
ask 400 '{"error":{"code":"BAD_REQUEST","message":"expires_at must be in the future"}}' 'a key of the past' \
    -H "Authorization: Bearer $ADMIN_TOKEN" -H 'Content-Type: application/json' \
    -d '{"name":"old","expires_at":"2025-03-16T00:00:00Z"}' "$INFRACAST_HOST/api/v1/api-keys"

# ── IP Allowlisting ─────────────────────────────────────────────────────────
curl -s -X POST "$INFRACAST_HOST/api/v1/api-keys" -H "Authorization: Bearer $ADMIN_TOKEN" -H 'Content-Type: application/json' -d '{
"name": "restricted-key",
"allowed_ips": ["10.0.0.0/8", "192.168.1.100"]
}' >"$work/restricted"
ask 403 "$FORBIDDEN" 'a restricted key from elsewhere' -H "Authorization: Bearer $(at "$work/restricted" key)" "$nodes"

# ── Revoking ────────────────────────────────────────────────────────────────
ask 204 '' 'revoke' -X DELETE -H "Authorization: Bearer $ADMIN_TOKEN" "$INFRACAST_HOST/api/v1/api-keys/$KEY_ID"
ask 401 "$UNAUTHORIZED" 'a revoked key' -H "Authorization: Bearer $KEY" "$nodes"
ask 204 '' 'logout' -X POST -H "Authorization: Bearer $TOKEN" "$INFRACAST_HOST/api/v1/auth/logout"
ask 401 "$UNAUTHORIZED" 'a token after logout' -H "Authorization: Bearer $TOKEN" "$nodes"
ask 401 "$UNAUTHORIZED" 'a refresh after logout' -H 'Content-Type: application/json' -d '{"refresh_token":"'"$REFRESH"'"}' \
    "$INFRACAST_HOST/api/v1/auth/refresh"

written=$(cat "$work/access.log" "$work/gateward.log")
for planted in "$INFRACAST_PASSWORD" "${TOKEN##*.}" "$REFRESH" "${KEY:20:40}"; do
    check 'nothing secret in the logs' "$([[ $written == *"$planted"* ]] && echo found || echo none)" none
done

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
