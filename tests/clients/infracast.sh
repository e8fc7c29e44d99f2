#!/usr/bin/env bash
# The clients of Infracast's documentation, unchanged but for host, secrets and the dates that have passed: curl, Python
# and JavaScript against the gateway, with deploy/examples/infracast.toml as it stands but for the ports, in front of
# httpbin, which echoes what it is sent. Its single sign-on is not here: the gateway has none yet.
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

# All bound at once, so that no two are the same.
read -r upstream port admin < <(python3 -c 'if True:
    import socket
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    print(*(s.getsockname()[1] for s in sockets))')
sed -e "s/127.0.0.1:8080/127.0.0.1:$port/" -e "s/127.0.0.1:9000/127.0.0.1:$upstream/" \
    "$root/deploy/examples/infracast.toml" >"$work/gateway.toml"
printf '\n[admin]\naddress = "127.0.0.1:%s"\n' "$admin" >>"$work/gateway.toml"
gateward() { "$GATEWARD" --config "$work/gateway.toml" "$@"; }

export INFRACAST_HOST=http://127.0.0.1:$port INFRACAST_PASSWORD='correct horse battery'
printf '%s' "$INFRACAST_PASSWORD" |
    gateward user add admin --role admin --email you@company.com --password-stdin --json >"$work/admin"
printf '%s' "$INFRACAST_PASSWORD" |
    gateward user add erin --tenant prod=admin --tenant staging=viewer --tenant dev=editor --password-stdin --json >"$work/erin"
admin_id=$(at "$work/admin" id)

# Without `dangerous` gunicorn itself drops names with underscores, and nothing would be seen of what the gateway let pass.
gunicorn --header-map dangerous --bind "127.0.0.1:$upstream" --workers 1 --threads 4 --log-level error \
    --access-logfile "$work/arrived" httpbin:app >"$work/httpbin.log" 2>&1 &
pids+=($!)
# Not through the function: the process to be stopped is the gateway, not a shell around it.
"$GATEWARD" --config "$work/gateway.toml" serve >"$work/access.log" 2>"$work/gateward.log" &
gateway_pid=$!
pids+=("$gateway_pid")
until_true httpbin curl -sf "http://127.0.0.1:$upstream/anything"
until_true gateward curl -sf "http://127.0.0.1:$admin/readyz"

# lifetime MOMENT: seconds from now, to the nearest minute; no RFC 3339 in UTC and whole seconds, no lifetime
lifetime() {
    [[ $1 =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$ ]] || return 0
    printf '%s' "$((($(date -d "$1" +%s) - $(date +%s) + 30) / 60 * 60))"
}

# ── Getting a Token ─────────────────────────────────────────────────────────
curl -s -X POST "$INFRACAST_HOST/api/v1/auth/token" \
-H "Content-Type: application/json" \
-d '{
"username": "admin",
"password": "'"$INFRACAST_PASSWORD"'"
}' >"$work/token"
check 'login members' "$(at "$work/token" '?')" '["expires_at","refresh_token","token","user"]'
check 'user' "$(at "$work/token" user)" \
    '{"email":"you@company.com","id":"'"$admin_id"'","roles":["admin"],"username":"admin"}'
check 'lifetime of a token' "$(lifetime "$(at "$work/token" expires_at)")" 3600
TOKEN=$(at "$work/token" token)
REFRESH=$(at "$work/token" refresh_token)

# ── Using Tokens ────────────────────────────────────────────────────────────
# identity FILE WHAT METHOD PERMISSIONS KEY-ID ROLES: the echo shows who called, and no credential
identity() {
    check "$2: path" "$(at "$1" url)" "http://127.0.0.1:$port/anything/api/v1/tenants/my-tenant/nodes"
    check "$2: no credential" "$(at "$1" headers Authorization)" absent
    check "$2: user id" "$(at "$1" headers X-Auth-User-Id)" "$admin_id"
    check "$2: user name" "$(at "$1" headers X-Auth-Username)" admin
    check "$2: email" "$(at "$1" headers X-Auth-Email)" you@company.com
    check "$2: roles" "$(at "$1" headers X-Auth-Roles)" "$6"
    check "$2: tenant" "$(at "$1" headers X-Auth-Tenant)" my-tenant
    check "$2: method" "$(at "$1" headers X-Auth-Method)" "$3"
    check "$2: permissions" "$(at "$1" headers X-Auth-Permissions)" "$4"
    check "$2: key" "$(at "$1" headers X-Auth-Key-Id)" "$5"
}
forged=(-H 'X-Auth-User-Id: root' -H 'X_Auth_User_Id: root' -H 'x-auth_user-id: root' -H 'X-Auth-Key-Id: root'
    -H 'X_Auth_Permissions: root' -H 'X-Auth-Tenant: root')
curl -s "${forged[@]}" "http://127.0.0.1:$upstream/anything" >"$work/echo"
check 'the echo shows every forged header' "$(at "$work/echo" headers X-Auth-User-Id)" root,root,root

curl -s -H "Authorization: Bearer $TOKEN" \
"$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes" >"$work/echo"
identity "$work/echo" curl jwt 'admin:*' absent admin
curl -s -H "Authorization: Bearer $TOKEN" "${forged[@]}" "$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes" >"$work/echo"
identity "$work/echo" forged jwt 'admin:*' absent admin
curl -s -H "Authorization: Bearer $TOKEN" -H 'Connection: close, X-Auth-User-Id, X-Auth-Permissions' \
    "$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes" >"$work/echo"
identity "$work/echo" 'named in Connection' jwt 'admin:*' absent admin
# "All API requests (except health checks) require a valid token."
curl -s "${forged[@]}" "$INFRACAST_HOST/api/v1/health" >"$work/echo"
check 'a health check is served' "$(at "$work/echo" method)" GET
check 'a health check comes from nobody' "$(at "$work/echo" headers | grep -ciE 'x[-_]auth|root' || true)" 0

python3 "$here/infracast.py" >"$work/python"
check 'Python status' "$(at "$work/python" status)" 200
at "$work/python" body >"$work/python.body"
identity "$work/python.body" Python jwt 'admin:*' absent admin

node "$here/infracast.mjs" >"$work/node"
check 'JavaScript status' "$(at "$work/node" status)" 200
at "$work/node" body >"$work/node.body"
identity "$work/node.body" JavaScript jwt 'admin:*' absent admin

# ── Refreshing Tokens ───────────────────────────────────────────────────────
curl -s -X POST "$INFRACAST_HOST/api/v1/auth/refresh" \
-H "Content-Type: application/json" \
-d '{
"refresh_token": "'"$REFRESH"'"
}' >"$work/refresh"
check 'refresh members' "$(at "$work/refresh" '?')" '["expires_at","token"]'
check 'lifetime of a refreshed token' "$(lifetime "$(at "$work/refresh" expires_at)")" 3600
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
check 'key name' "$(at "$work/key" name)" ci-cd-integration
check 'key made now' "$(lifetime "$(at "$work/key" created_at)")" 0
check 'key expiry' "$(at "$work/key" expires_at)" 2999-03-16T00:00:00Z
KEY=$(at "$work/key" key) KEY_ID=$(at "$work/key" id)
check 'key prefix' "${KEY:0:8}" ic_live_

curl -s -H "Authorization: Bearer $KEY" \
"$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes" >"$work/echo"
identity "$work/echo" key api_key nodes:read,findings:read "$KEY_ID" ''

# ask STATUS BODY WHAT CURL-ARGUMENTS...: the body is JSON, or nothing at all
ask() {
    local status=$1 body=$2 what=$3
    shift 3
    check "$what: status" "$(curl -s -o "$work/answer" -w '%{http_code}' "$@")" "$status"
    if [[ $body ]]; then
        printf '%s' "$body" >"$work/expected"
        check "$what: body" "$(at "$work/answer")" "$(at "$work/expected")"
    else
        check "$what: bytes" "$(wc -c <"$work/answer")" 0
    fi
}
# As the document has them.
UNAUTHORIZED='{"error": {"code": "UNAUTHORIZED", "message": "Invalid or expired token"}}'
FORBIDDEN='{"error": {"code": "FORBIDDEN", "message": "Insufficient permissions"}}'
WRONG_LOGIN='{"error": {"code": "UNAUTHORIZED", "message": "Invalid username or password"}}'
nodes=$INFRACAST_HOST/api/v1/tenants/my-tenant/nodes?refused
ask 401 "$UNAUTHORIZED" 'no token' "$nodes"
ask 401 "$UNAUTHORIZED" 'a wrong token' -H 'Authorization: Bearer eyJhbGciOiJIUzI1NiIs...' "$nodes"
ask 401 "$UNAUTHORIZED" 'another scheme' -H 'Authorization: Basic YWRtaW46c2VjcmV0' "$nodes"
ask 401 "$UNAUTHORIZED" 'a refresh token in its place' -H "Authorization: Bearer $REFRESH" "$nodes"
ask 401 "$UNAUTHORIZED" 'an access token that refreshes' -H 'Content-Type: application/json' \
    -d '{"refresh_token":"'"$TOKEN"'"}' "$INFRACAST_HOST/api/v1/auth/refresh"
ask 401 "$UNAUTHORIZED" 'a wrong environment' -H 'Authorization: Bearer ic_dev_abc123xyz789' "$nodes"
ask 401 "$UNAUTHORIZED" "this key's in another environment" -H "Authorization: Bearer ic_test_${KEY#ic_live_}" "$nodes"
ask 404 '{"error": {"code": "NOT_FOUND", "message": "not found"}}' 'outside the API' "$INFRACAST_HOST/elsewhere?refused"
ask 403 "$FORBIDDEN" 'a permission that the key lacks' -X POST -H "Authorization: Bearer $KEY" "$nodes"
ask 403 "$FORBIDDEN" 'a tenant that the key lacks' -H "Authorization: Bearer $KEY" \
    "$INFRACAST_HOST/api/v1/tenants/other/nodes?refused"
ask 403 "$FORBIDDEN" 'a path that the contract does not list' -H "Authorization: Bearer $KEY" "$INFRACAST_HOST/api/v1/other?refused"
ask 403 "$FORBIDDEN" 'administration' -H "Authorization: Bearer $KEY" "$INFRACAST_HOST/api/v1/admin/other?refused"
ask 403 "$FORBIDDEN" 'a key that makes keys' -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    -d '{"name":"child"}' "$INFRACAST_HOST/api/v1/api-keys"
# log_in NAME PASSWORD STATUS BODY WHAT
log_in() {
    ask "$3" "$4" "$5" -H 'Content-Type: application/json' -d '{"username":"'"$1"'","password":"'"$2"'"}' \
        "$INFRACAST_HOST/api/v1/auth/token"
}
log_in admin wrong 401 "$WRONG_LOGIN" 'a wrong password'
log_in nobody wrong 401 "$WRONG_LOGIN" 'an unknown user'
ask 400 '{"error":{"code":"BAD_REQUEST","message":"expires_at must be in the future"}}' 'a key of the past' \
    -H "Authorization: Bearer $ADMIN_TOKEN" -H 'Content-Type: application/json' \
    -d '{"name":"old","expires_at":"2025-03-16T00:00:00Z"}' "$INFRACAST_HOST/api/v1/api-keys"

# ── IP Allowlisting ─────────────────────────────────────────────────────────
# restricted NETWORKS: makes the key of the example, for these networks
restricted() {
    curl -s -X POST "$INFRACAST_HOST/api/v1/api-keys" \
-H "Authorization: Bearer $ADMIN_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"name": "restricted-key",
"allowed_ips": '"$1"'
}' >"$work/restricted"
}
restricted '["10.0.0.0/8", "192.168.1.100"]'
check 'a key without end' "$(at "$work/restricted" expires_at)" null
ask 403 "$FORBIDDEN" 'a restricted key from elsewhere' -H "Authorization: Bearer $(at "$work/restricted" key)" "$nodes"
ask 403 "$FORBIDDEN" 'a restricted key with an address that the client claims' -H 'X-Forwarded-For: 10.1.2.3' \
    -H 'Forwarded: for=10.1.2.3' -H "Authorization: Bearer $(at "$work/restricted" key)" "$nodes"
restricted '["10.0.0.0/8", "127.0.0.1"]'
check 'a restricted key from its own address' "$(curl -s -o "$work/answer" -w '%{http_code}' \
    -H "Authorization: Bearer $(at "$work/restricted" key)" "${nodes%refused}served")" 200
# The example asks for no permissions: a key can read then.
check 'permissions of the example' "$(at "$work/answer" headers X-Auth-Permissions)" nodes:read,findings:read,jobs:read,reports:read

# ── Multi-Tenant Access ─────────────────────────────────────────────────────
curl -s -X POST "$INFRACAST_HOST/api/v1/auth/token" -H 'Content-Type: application/json' \
    -d '{"username":"erin","password":"'"$INFRACAST_PASSWORD"'"}' >"$work/token"
check 'tenants' "$(at "$work/token" user tenants)" \
    '[{"id":"prod","role":"admin"},{"id":"staging","role":"viewer"},{"id":"dev","role":"editor"}]'
ERIN=$(at "$work/token" token)
# may STATUS METHOD PATH: below the tenants
may() {
    check "erin: $2 $3" "$(curl -s -o "$work/answer" -w '%{http_code}' -X "$2" -H "Authorization: Bearer $ERIN" \
        "$INFRACAST_HOST/api/v1/tenants/$3")" "$1"
}
may 200 POST prod/nodes
check 'role in prod' "$(at "$work/answer" headers X-Auth-Tenant-Role)" admin
may 200 GET staging/nodes
check 'role in staging' "$(at "$work/answer" headers X-Auth-Tenant-Role)" viewer
may 403 POST staging/nodes
may 200 POST dev/nodes
check 'role in dev' "$(at "$work/answer" headers X-Auth-Tenant-Role)" editor
may 403 GET my-tenant/nodes
# What the contract lists by no name: writing takes an editor.
may 200 GET staging/settings
may 403 POST staging/settings
may 200 POST dev/settings
ask 403 "$FORBIDDEN" 'keys are for administrators' -H "Authorization: Bearer $ERIN" "$INFRACAST_HOST/api/v1/api-keys"

# ── "It cannot be retrieved later" ──────────────────────────────────────────
curl -s -H "Authorization: Bearer $ADMIN_TOKEN" "$INFRACAST_HOST/api/v1/api-keys?per_page=2" >"$work/answer"
check 'a page of keys' "$(for step in page per_page total total_pages; do at "$work/answer" $step; done | tr '\n' ' ')" '1 2 3 2 '
check 'a listed key' "$(at "$work/answer" items 0 '?')" \
    '["allowed_ips","created_at","expires_at","id","last_used_at","name","permissions","revoked","tenants"]'
curl -s -H "Authorization: Bearer $ADMIN_TOKEN" "$INFRACAST_HOST/api/v1/api-keys" >"$work/answer"
check 'all keys are listed' "$(grep -cF "$KEY_ID" "$work/answer" || true)" 1
check 'no key is listed in full' "$(grep -cF "${KEY:20:40}" "$work/answer" || true)" 0

# ── Revoking ────────────────────────────────────────────────────────────────
ask 404 '{"error": {"code": "NOT_FOUND", "message": "no such API key"}}' 'revoke what is not there' -X DELETE \
    -H "Authorization: Bearer $ADMIN_TOKEN" "$INFRACAST_HOST/api/v1/api-keys/key-abc123"
ask 204 '' 'revoke' -X DELETE -H "Authorization: Bearer $ADMIN_TOKEN" "$INFRACAST_HOST/api/v1/api-keys/$KEY_ID"
ask 401 "$UNAUTHORIZED" 'a revoked key' -D "$work/head" -H "Authorization: Bearer $KEY" "$nodes"
request_id=$(sed -n 's/^x-request-id: \(.*\)\r$/\1/Ip' "$work/head")
ask 204 '' 'logout' -X POST -H "Authorization: Bearer $TOKEN" "$INFRACAST_HOST/api/v1/auth/logout"
ask 401 "$UNAUTHORIZED" 'a token after logout' -H "Authorization: Bearer $TOKEN" "$nodes"
ask 401 "$UNAUTHORIZED" 'a refresh after logout' -H 'Content-Type: application/json' -d '{"refresh_token":"'"$REFRESH"'"}' \
    "$INFRACAST_HOST/api/v1/auth/refresh"

# "Revoke tokens when users leave": from the command line, while the gateway serves.
check 'erin leaves' "$(gateward user disable erin)" "disabled erin ($(at "$work/erin" id)) in realm infracast"
has_left() {
    [[ $(curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $ERIN" "$INFRACAST_HOST/api/v1/tenants/dev/nodes") == 401 ]]
}
until_true 'the end of her token' has_left
ask 401 "$UNAUTHORIZED" 'a token of who left' -H "Authorization: Bearer $ERIN" "$INFRACAST_HOST/api/v1/tenants/dev/nodes?refused"
log_in erin "$INFRACAST_PASSWORD" 401 "$WRONG_LOGIN" 'a login of who left'

# ── Too many logins: ten a minute from one address, the above among them ────
ask 400 '{"error": {"code": "BAD_REQUEST", "message": "password is required"}}' 'a login without a password' \
    -H 'Content-Type: application/json' -d '{"username":"admin"}' "$INFRACAST_HOST/api/v1/auth/token"
is_limited() {
    [[ $(curl -s -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -d '{}' \
        "$INFRACAST_HOST/api/v1/auth/token") == 429 ]]
}
for ((tries = 0; tries < 20; tries++)); do is_limited && break; done
ask 429 '{"error": {"code": "RATE_LIMITED", "message": "Too many requests"}}' 'too many logins' -D "$work/head" \
    -H 'Content-Type: application/json' -d '{}' "$INFRACAST_HOST/api/v1/auth/token"
retry_after=$(sed -n 's/^retry-after: \(.*\)\r$/\1/Ip' "$work/head")
check 'when to come back' "$([[ $retry_after =~ ^[1-9][0-9]?$ ]] && echo 'in a minute' || echo "$retry_after")" 'in a minute'

# ── What the operator has of it ─────────────────────────────────────────────
kill "$gateway_pid"
code=0
wait "$gateway_pid" || code=$?
check 'the gateway ends when told to' "$code" 0
check 'the log says why' "$(grep -F "\"request_id\":\"$request_id\"" "$work/access.log" | grep -cF '"reason":"key_revoked"' || true)" 1
check 'the API kept a log of what arrived' "$(grep -c '?served' "$work/arrived" || true)" 1
check 'nothing that was refused arrived' "$(grep -c '?refused' "$work/arrived" || true)" 0

written=$(cat "$work/access.log" "$work/gateward.log")
for planted in "$INFRACAST_PASSWORD" "${TOKEN##*.}" "$REFRESH" "${KEY:20:40}"; do
    check 'nothing secret in the logs' "$([[ $written == *"$planted"* ]] && echo found || echo none)" none
done

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
