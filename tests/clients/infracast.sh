#!/usr/bin/env bash
# Infracast's documented client calls, run as they stand against gateward in front of an API that echoes what reached it.
#
#   GATEWARD=target/debug/gateward tests/clients/infracast.sh
#
# Needs curl, node 20 and a python3 that has httpbin, gunicorn and requests (`tests/run clients` brings them). Runs
# deploy/examples/infracast.toml with other ports. What stands under "document:" is the document's own text, but for the
# host, secrets and dates; everything else asks what the document promises in words.
set -euo pipefail

gateward=$(realpath "${GATEWARD:?the path of the binary}")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
pids=()
passed=0 failed=0 status=

finish() {
    local code=$? pid
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ── how an answer is judged ─────────────────────────────────────────────────────────────────────────────────────────

# is WHAT WANTED FOUND
is() {
    if [[ $2 == "$3" ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n        wanted  %s\n        found   %s\n' "$@"
    fi
}

# fits WHAT PATTERN FOUND: the whole of it fits the extended regular expression
fits() {
    if [[ $3 =~ ^($2)$ ]]; then is "$1" "$3" "$3"; else is "$1" "a match of $2" "$3"; fi
}

# Every call leaves its status in $status, its header fields in $work/head and its body in $work/body.
curl() {
    : >"$work/body"
    status=$(command curl --silent --show-error --max-time 20 --noproxy '*' --output "$work/body" --dump-header "$work/head" \
        --write-out '%{http_code}' "$@")
}

# at STEP...: the value that the steps lead to in the last body
at() { python3 "$here/at.py" "$work/body" "$@"; }

# says WHAT STATUS JSON: status and whole body of the last answer
says() {
    printf '%s' "$3" >"$work/wanted"
    is "$1" "$2 $(python3 "$here/at.py" "$work/wanted")" "$status $(at)"
}

# header NAME: its value in the last answer
header() { sed -n "s/^$1: \(.*\)\r\$/\1/Ip" "$work/head"; }

# identity: which header fields about the caller reached the API with the last request
identity() { at headers '?' | tr -d '[]"' | tr ',' '\n' | grep -Ei '^(x[-_]auth|authorization)' | tr '\n' ' ' || true; }

# The document's own words.
unauthorized='{"error": {"code": "UNAUTHORIZED", "message": "Invalid or expired token"}}'
forbidden='{"error": {"code": "FORBIDDEN", "message": "Insufficient permissions"}}'

bad_request() { printf '{"error": {"code": "BAD_REQUEST", "message": "%s"}}' "$1"; }

# ── the API and the gateway ─────────────────────────────────────────────────────────────────────────────────────────

# until_up NAME PID URL
until_up() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$2" 2>/dev/null || break
        if command curl --silent --fail --noproxy '*' --max-time 2 --output /dev/null "$3"; then return; fi
        sleep 0.1
    done
    printf '%s did not come up:\n' "$1" >&2
    cat "$work/$1.err" >&2
    exit 1
}

# Three ports that are free now, held together so that they differ.
read -r api_port port admin_port < <(python3 -c '
import socket
held = [socket.socket() for _ in range(3)]
for one in held: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))')
HOST=http://127.0.0.1:$port
API=http://127.0.0.1:$api_port
nodes=$HOST/api/v1/tenants/my-tenant/nodes

# With `dangerous` an underscore in a header name reads as a hyphen, as in many servers: what the gateway lets through in
# that spelling would count.
gunicorn --bind "127.0.0.1:$api_port" --threads 4 --header-map dangerous --access-logfile "$work/api.log" httpbin:app \
    >"$work/api.out" 2>"$work/api.err" &
pids+=($!)
until_up api $! "$API/status/200"

sed -e "s|127\.0\.0\.1:8080|127.0.0.1:$port|" -e "s|127\.0\.0\.1:9000|127.0.0.1:$api_port|" \
    "$here/../../deploy/examples/infracast.toml" >"$work/gateway.toml"
printf '\n[admin]\naddress = "127.0.0.1:%s"\n' "$admin_port" >>"$work/gateway.toml"
export GATEWARD_CONFIG=$work/gateway.toml

INFRACAST_PASSWORD=$(python3 -c 'import secrets; print(secrets.token_urlsafe(16))')
export INFRACAST_HOST=$HOST INFRACAST_PASSWORD
printf '%s' your-password | "$gateward" user add your-username --email you@company.com --role admin --password-stdin
printf '%s' "$INFRACAST_PASSWORD" | "$gateward" user add admin --role admin --password-stdin
printf '%s' many-tenants |
    "$gateward" user add multi --tenant prod=admin --tenant staging=viewer --tenant dev=editor --password-stdin

"$gateward" serve >"$work/access.log" 2>"$work/gateward.err" &
gateward_pid=$!
pids+=("$gateward_pid")
until_up gateward "$gateward_pid" "http://127.0.0.1:$admin_port/readyz"

# ── "All API requests (except health checks) require a valid token" ─────────────────────────────────────────────────
curl "$HOST/api/v1/health?served"
is 'a health check needs no token' '200 GET' "$status $(at method)"
is 'a health check tells the API of nobody' '' "$(identity)"
curl "$nodes?refused"
says 'a call without a token is refused' 401 "$unauthorized"
is 'the refusal is JSON' application/json "$(header content-type)"
curl -H 'Authorization: Bearer eyJhbGciOiJIUzI1NiIs...' "$nodes?refused"
says 'a call with no real token is refused' 401 "$unauthorized"
curl -H 'Authorization: Basic YWRtaW46c2VjcmV0' "$nodes?refused"
says 'a call with another scheme is refused' 401 "$unauthorized"
curl "$HOST/elsewhere?refused"
says 'a path outside the API is unknown' 404 '{"error": {"code": "NOT_FOUND", "message": "not found"}}'

# ── Getting a Token; document: ──────────────────────────────────────────────────────────────────────────────────────
curl -X POST "$HOST"/api/v1/auth/token \
-H "Content-Type: application/json" \
-d '{
"username": "your-username",
"password": "your-password"
}'

is 'a login answers' 200 "$status"
is 'a login answers four members' '["expires_at","refresh_token","token","user"]' "$(at '?')"
is 'a login answers the user in four members' '["email","id","roles","username"]' "$(at user '?')"
is 'the user is the one who logged in' 'your-username you@company.com ["admin"]' \
    "$(at user username) $(at user email) $(at user roles)"
fits 'the user has an id of the documented form' 'user-[a-z0-9]+' "$(at user id)"
fits 'the access token is a JWT' 'eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+' "$(at token)"
fits 'the refresh token is opaque' '[A-Za-z0-9_=-]{32,}' "$(at refresh_token)"
fits 'the time of expiry is in UTC seconds' '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z' "$(at expires_at)"
left=$(($(date -d "$(at expires_at)" +%s) - $(date +%s)))
is 'an access token lives for an hour' yes "$( ((left > 3540 && left <= 3600)) && echo yes || echo "$left s")"
is 'tokens are not cached on the way' no-store "$(header cache-control)"
token=$(at token) refresh_token=$(at refresh_token) user_id=$(at user id)

# ── Using Tokens; document: ─────────────────────────────────────────────────────────────────────────────────────────
curl -H "Authorization: Bearer $token" \
"$HOST"/api/v1/tenants/my-tenant/nodes

is 'the token is taken' 200 "$status"
fits 'the path arrives as it was sent' 'http://[^/]+/anything/api/v1/tenants/my-tenant/nodes' "$(at url)"
is 'the API learns who calls, and gets no credential' \
    'X-Auth-Email X-Auth-Method X-Auth-Permissions X-Auth-Roles X-Auth-Tenant X-Auth-User-Id X-Auth-Username ' "$(identity)"
is 'the API learns the account' "$user_id your-username you@company.com admin" \
    "$(at headers X-Auth-User-Id) $(at headers X-Auth-Username) $(at headers X-Auth-Email) $(at headers X-Auth-Roles)"
is 'the API learns what the session may do where' 'jwt my-tenant admin:*' \
    "$(at headers X-Auth-Method) $(at headers X-Auth-Tenant) $(at headers X-Auth-Permissions)"

# ── the programs; each prints what its call to the API came back with ───────────────────────────────────────────────
for program in "python3 $here/infracast.py" "node $here/infracast.mjs"; do
    $program >"$work/body"
    is "${program%% *} gets through" '200 admin jwt my-tenant' "$(at status) $(at body headers X-Auth-Username) $(
        at body headers X-Auth-Method) $(at body headers X-Auth-Tenant)"
    is "${program%% *}'s token stays at the gateway" absent "$(at body headers Authorization)"
done

# ── nobody says who they are ────────────────────────────────────────────────────────────────────────────────────────
forged=(-H 'X-Auth-User-Id: root' -H 'x_auth_user_id: root' -H 'X.Auth.User.Id: root' -H 'X-Auth_Key-Id: root' -H 'X-AUTH-ROLES: root')
curl "${forged[@]}" "$API/anything"
is 'the API would believe them without the gateway' 'root,root' "$(at headers X-Auth-User-Id)"
curl "${forged[@]}" -H "Authorization: Bearer $token" "$nodes"
is 'forged headers do not arrive with a token' "$user_id admin absent" \
    "$(at headers X-Auth-User-Id) $(at headers X-Auth-Roles) $(at headers X-Auth-Key-Id)"
curl "${forged[@]}" -H 'Connection: close, X-Auth-User-Id' -H "Authorization: Bearer $token" "$nodes"
is 'no Connection header takes the identity away' "$user_id" "$(at headers X-Auth-User-Id)"
curl "${forged[@]}" "$HOST/api/v1/health"
is 'forged headers do not arrive without a token' '200 ' "$status $(identity)"

# ── Refreshing Tokens; document: ────────────────────────────────────────────────────────────────────────────────────
curl -X POST "$HOST"/api/v1/auth/refresh \
-H "Content-Type: application/json" \
-d '{
"refresh_token": "'"$refresh_token"'"
}'

is 'a refresh answers token and time of expiry, nothing else' '200 ["expires_at","token"]' "$status $(at '?')"
refreshed=$(at token)
is 'a refresh gives another token' no "$([[ $refreshed == "$token" ]] && echo yes || echo no)"
curl -H "Authorization: Bearer $refreshed" "$nodes"
is 'the new token is taken' "200 $user_id" "$status $(at headers X-Auth-User-Id)"
curl -X POST "$HOST/api/v1/auth/refresh" -H 'Content-Type: application/json' -d '{"refresh_token": "'"$token"'"}'
says 'an access token refreshes nothing' 401 "$unauthorized"
curl -H "Authorization: Bearer $refresh_token" "$nodes?refused"
says 'a refresh token opens nothing' 401 "$unauthorized"

# ── Create an API Key; document: ────────────────────────────────────────────────────────────────────────────────────
ADMIN_TOKEN=$token
curl -X POST "$HOST"/api/v1/api-keys \
-H "Authorization: Bearer $ADMIN_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"name": "ci-cd-integration",
"tenants": ["my-tenant"],
"permissions": ["nodes:read", "findings:read"],
"expires_at": "2099-03-16T00:00:00Z"
}'

is 'a key is made with five members' '201 ["created_at","expires_at","id","key","name"]' "$status $(at '?')"
is 'the key is the one that was asked for' 'ci-cd-integration 2099-03-16T00:00:00Z' "$(at name) $(at expires_at)"
fits 'the key has an id of the documented form' 'key-[a-z0-9]+' "$(at id)"
fits 'the key has the documented prefix' 'ic_live_[A-Za-z0-9_]{40,}' "$(at key)"
fits 'the time of making is in UTC seconds' '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z' "$(at created_at)"
key=$(at key) key_id=$(at id)

# make_key JSON
make_key() {
    curl -X POST "$HOST/api/v1/api-keys" -H "Authorization: Bearer $ADMIN_TOKEN" -H 'Content-Type: application/json' -d "$1"
}
make_key '{"name": "late", "expires_at": "2025-03-16T00:00:00Z"}'
says "the document's own date is past" 400 "$(bad_request 'expires_at must be in the future')"
make_key '{"tenants": ["my-tenant"]}'
says 'a key needs a name' 400 "$(bad_request 'name is required')"
make_key '{"name": "odd", "permissions": ["nodes:fly"]}'
says 'a permission must be known' 400 "$(bad_request 'permissions holds an unknown permission')"
make_key '{"name": "odd", "allowed_ips": ["10.0.0.0/33"]}'
says 'an address must be one' 400 "$(bad_request 'allowed_ips must be a list of IP addresses and CIDR networks')"
curl -X POST "$HOST/api/v1/api-keys" -H 'Content-Type: application/json' -d '{"name": "nobody"}'
says 'a key is made for somebody only' 401 "$unauthorized"

# ── Using API Keys; document: ───────────────────────────────────────────────────────────────────────────────────────
curl -H "Authorization: Bearer $key" \
"$HOST"/api/v1/tenants/my-tenant/nodes

is 'the key is taken' 200 "$status"
is 'the API learns of the key, and does not get it' \
    'X-Auth-Email X-Auth-Key-Id X-Auth-Method X-Auth-Permissions X-Auth-Roles X-Auth-Tenant X-Auth-User-Id X-Auth-Username ' \
    "$(identity)"
is 'the API learns which key it is, whose, and what it may do' "$key_id $user_id api_key my-tenant nodes:read,findings:read" \
    "$(at headers X-Auth-Key-Id) $(at headers X-Auth-User-Id) $(at headers X-Auth-Method) $(at headers X-Auth-Tenant) $(
        at headers X-Auth-Permissions)"

as_key=(-H "Authorization: Bearer $key")
curl "${as_key[@]}" "$HOST/api/v1/tenants/my-tenant/findings?served"
is 'a permission that the key has' 200 "$status"
curl "${as_key[@]}" "$HOST/api/v1/tenants/my-tenant/jobs?refused"
says 'a permission that the key has not' 403 "$forbidden"
curl "${as_key[@]}" -X POST "$nodes?refused" -d x=1
says 'reading is not writing' 403 "$forbidden"
curl "${as_key[@]}" "$HOST/api/v1/tenants/other-tenant/nodes?refused"
says 'a tenant that the key does not name' 403 "$forbidden"
curl "${as_key[@]}" "$HOST/api/v1/somewhere-else?refused"
says 'a path that nobody listed is not for keys' 403 "$forbidden"
curl "${as_key[@]}" -X POST "$HOST/api/v1/api-keys" -H 'Content-Type: application/json' -d '{"name": "child"}'
says 'a key without admin:* makes no keys' 403 "$forbidden"
curl "${as_key[@]}" "$HOST/api/v1/admin/anything?refused"
says 'administration is for administrators' 403 "$forbidden"
curl -H "Authorization: Bearer ic_test_${key#ic_live_}" "$nodes?refused"
says 'a key of another environment is refused' 401 "$unauthorized"
curl -H "Authorization: Bearer ${key%?}$([[ $key == *0 ]] && echo 1 || echo 0)" "$nodes?refused"
says 'a mistyped key is refused' 401 "$unauthorized"

# ── IP Allowlisting; document: (the body) ───────────────────────────────────────────────────────────────────────────
make_key '{
"name": "restricted-key",
"allowed_ips": ["10.0.0.0/8", "192.168.1.100"]
}'
is 'the restricted key is made and does not expire' '201 null' "$status $(at expires_at)"
restricted=$(at key)
curl -H "Authorization: Bearer $restricted" "$nodes?refused"
says 'the restricted key is refused from elsewhere' 403 "$forbidden"
curl -H "Authorization: Bearer $restricted" -H 'X-Forwarded-For: 10.1.2.3' -H 'Forwarded: for=10.1.2.3' "$nodes?refused"
says 'an address that the client claims counts for nothing' 403 "$forbidden"
make_key '{"name": "local-key", "allowed_ips": ["127.0.0.0/8"]}'
curl -H "Authorization: Bearer $(at key)" "$nodes?served"
is 'a restricted key is taken from where it may be' '200 nodes:read,findings:read,jobs:read,reports:read' \
    "$status $(at headers X-Auth-Permissions)"

# ── "Keys can be revoked", "It cannot be retrieved later" ───────────────────────────────────────────────────────────
curl "$HOST/api/v1/api-keys?per_page=2" -H "Authorization: Bearer $ADMIN_TOKEN"
is 'keys are listed by the page' '200 ["items","page","per_page","total","total_pages"] 1 2 3 2' \
    "$status $(at '?') $(at page) $(at per_page) $(at total) $(at total_pages)"
is 'a listed key shows everything but itself' \
    '["allowed_ips","created_at","expires_at","id","last_used_at","name","permissions","revoked","tenants"]' "$(at items 0 '?')"
curl "$HOST/api/v1/api-keys" -H "Authorization: Bearer $ADMIN_TOKEN"
is 'no list gives a key away' 0 "$(grep -cF -e "$key" -e "$restricted" "$work/body" || true)"
curl -X DELETE "$HOST/api/v1/api-keys/$key_id" -H "Authorization: Bearer $ADMIN_TOKEN"
is 'a key is revoked' '204 0' "$status $(stat -c %s "$work/body")"
curl "${as_key[@]}" "$nodes?refused"
says 'a revoked key is refused at once' 401 "$unauthorized"
revoked_id=$(header x-request-id)
curl -X DELETE "$HOST/api/v1/api-keys/key-abc123" -H "Authorization: Bearer $ADMIN_TOKEN"
says 'a key that is none cannot be revoked' 404 '{"error": {"code": "NOT_FOUND", "message": "no such API key"}}'

# ── Multi-Tenant Access ─────────────────────────────────────────────────────────────────────────────────────────────
# The second login of the interface answers like the first.
curl -X POST "$HOST/api/v1/auth/login" -H 'Content-Type: application/json' \
    -d '{"username": "multi", "password": "many-tenants", "tenant_id": "dev"}'
is 'a login shows the roles of each tenant' \
    '200 [{"id":"prod","role":"admin"},{"id":"staging","role":"viewer"},{"id":"dev","role":"editor"}] []' \
    "$status $(at user tenants) $(at user roles)"
as_multi=(-H "Authorization: Bearer $(at token)")
multi_token=$(at token)
curl "${as_multi[@]}" "$HOST/api/v1/tenants/dev/nodes?served"
is 'the API learns the role of the tenant' '200 dev editor *:read,nodes:write,findings:write,jobs:write' \
    "$status $(at headers X-Auth-Tenant) $(at headers X-Auth-Tenant-Role) $(at headers X-Auth-Permissions)"
curl "${as_multi[@]}" -X POST "$HOST/api/v1/tenants/dev/jobs?served" -d x=1
is 'an editor starts jobs' '200 1' "$status $(at form x)"
curl "${as_multi[@]}" "$HOST/api/v1/tenants/staging/jobs?served"
is 'a viewer reads' '200 viewer' "$status $(at headers X-Auth-Tenant-Role)"
curl "${as_multi[@]}" -X POST "$HOST/api/v1/tenants/staging/jobs?refused" -d x=1
says 'a viewer starts none' 403 "$forbidden"
curl "${as_multi[@]}" "$HOST/api/v1/tenants/my-tenant/nodes?refused"
says 'a tenant of others' 403 "$forbidden"
curl "${as_multi[@]}" "$HOST/api/v1/tenants/prod/../my-tenant/nodes?refused" --path-as-is
fits 'no detour leads into a tenant of others' '400|403' "$status"

# ── "Token was revoked" ─────────────────────────────────────────────────────────────────────────────────────────────
curl -X POST "$HOST/api/v1/auth/logout" -H "Authorization: Bearer $token"
is 'a logout is done' '204 0' "$status $(stat -c %s "$work/body")"
curl -X POST "$HOST/api/v1/auth/refresh" -H 'Content-Type: application/json' -d '{"refresh_token": "'"$refresh_token"'"}'
says 'nothing is refreshed after it' 401 "$unauthorized"
for ended in "$token" "$refreshed"; do
    curl -H "Authorization: Bearer $ended" "$nodes?refused"
    says 'the tokens of the session have ended with it' 401 "$unauthorized"
done

# "Revoke tokens when users leave": from the command line, while the gateway runs.
"$gateward" user disable multi
for ((tries = 0; tries < 50; tries++)); do
    curl "${as_multi[@]}" "$HOST/api/v1/tenants/dev/nodes?leaving"
    [[ $status == 200 ]] || break
    sleep 0.1
done
says 'the token of a user who left is refused within seconds' 401 "$unauthorized"

# ── wrong logins, all alike ─────────────────────────────────────────────────────────────────────────────────────────
# log_in NAME PASSWORD
log_in() {
    curl -X POST "$HOST/api/v1/auth/token" -H 'Content-Type: application/json' \
        -d '{"username": "'"$1"'", "password": "'"$2"'"}'
}
wrong_login='{"error": {"code": "UNAUTHORIZED", "message": "Invalid username or password"}}'
log_in your-username wrong-password
says 'a wrong password' 401 "$wrong_login"
log_in nobody wrong-password
says 'an unknown user' 401 "$wrong_login"
log_in multi many-tenants
says 'a user who left' 401 "$wrong_login"
curl -X POST "$HOST/api/v1/auth/token" -H 'Content-Type: application/json' -d '{"username": "admin"}'
says 'a login without a password' 400 "$(bad_request 'password is required')"

# Ten logins a minute from one address, and the above were some of them.
for ((tries = 0; tries < 25; tries++)); do
    curl -X POST "$HOST/api/v1/auth/token" -H 'Content-Type: application/json' -d '{}'
    [[ $status == 400 ]] || break
done
says 'too many logins' 429 '{"error": {"code": "RATE_LIMITED", "message": "Too many requests"}}'
fits 'the client learns when to come back' '[1-9][0-9]?' "$(header retry-after)"

# ── what the operator has of it ─────────────────────────────────────────────────────────────────────────────────────
kill "$gateward_pid"
code=0
wait "$gateward_pid" || code=$?
is 'the gateway ends well when told to' 0 "$code"
is 'the log says why the revoked key was refused' 1 \
    "$(grep -F "\"request_id\":\"$revoked_id\"" "$work/access.log" | grep -cF '"reason":"key_revoked"' || true)"
is 'no refused request reached the API' 0 "$(grep -c '[?]refused' "$work/api.log" || true)"
is 'every served request did' 7 "$(grep -c '[?]served' "$work/api.log" || true)"
is 'no log holds a secret' 0 "$(grep -cF -e "$token" -e "$refreshed" -e "$refresh_token" -e "$key" -e "$restricted" \
    -e "$multi_token" -e "$INFRACAST_PASSWORD" -e your-password -e many-tenants "$work/access.log" "$work/gateward.err" |
    awk -F: '{ lines += $NF } END { print lines }')"

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
