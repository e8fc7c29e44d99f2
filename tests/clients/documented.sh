#!/usr/bin/env bash
# Every config and contract that the documentation shows is one that the gateway takes: `gateward check` on the example
# files and on the blocks of the READMEs, as they stand there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${GATEWARD:?the built binary}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

passed=0 failed=0
# holds WHAT COMMAND...
holds() {
    local what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n' "$what"
        sed 's/^/  /' "$work/said"
    fi
}
# indented FIRST-LINE: the indented block of README.md that begins so
indented() {
    awk -v first="    $1" '$0 == first { on = 1 } on && NF && !/^    / { exit } on { sub(/^    /, ""); print }' "$root/README.md"
}

holds 'gateway.toml.example' "$GATEWARD" check "$root/gateway.toml.example"
for file in "$root"/deploy/examples/*.toml; do holds "${file#"$root/"}" "$GATEWARD" check "$file"; done

indented '[[listener]]' >"$work/gateway.toml"
holds 'README.md: the config has an API' grep -q '^contract = "native"$' "$work/gateway.toml"
holds 'README.md: the config' "$GATEWARD" check "$work/gateway.toml"
indented '[[api.route]]' >>"$work/gateway.toml"
holds 'README.md: the config has a route with an allowlist' grep -q '^allow_ips' "$work/gateway.toml"
holds 'README.md: the config with the route' "$GATEWARD" check "$work/gateway.toml"

sed -n '/^```toml$/,/^```$/{/^```/d;p}' "$root/deploy/contracts/README.md" >"$work/shop.toml"
printf '[[api]]\nupstream = "http://127.0.0.1:9000"\ncontract = "shop.toml"\n' >"$work/shop-gateway.toml"
holds 'deploy/contracts/README.md: the contract has endpoints' grep -q '^\[\[endpoint\]\]$' "$work/shop.toml"
holds 'deploy/contracts/README.md: the contract' "$GATEWARD" check "$work/shop-gateway.toml"

"$GATEWARD" schema >"$work/schema"
holds 'gateway.toml.example names every member of a section' python3 - "$work/schema" "$root/gateway.toml.example" <<'PYTHON'
import json, re, sys

schema = json.load(open(sys.argv[1], encoding="utf-8"))
text = open(sys.argv[2], encoding="utf-8").read()

def members(node):
    for name, inner in node.get("properties", {}).items():
        yield name
        yield from members(inner)
        yield from members(inner.get("items", {}))

missing = [name for name in members(schema) if not re.search(rf"\b{name}\b", text)]
print("missing:", missing)
sys.exit(bool(missing))
PYTHON

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
