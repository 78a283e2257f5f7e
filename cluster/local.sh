#!/usr/bin/env bash
# A Ray head with a token on this machine, for jobs. It stays in the foreground: Ctrl-C, or SIGTERM to this
# process, ends it and all that it started.
#   uv run cluster/local.sh [options of `ray start`, such as --num-cpus=4]
# EXDD_DASHBOARD_PORT (8265), EXDD_RAY_PORT (6379) and EXDD_RAY_TEMP (/tmp/exdd-ray; a short path: sockets lie in it)
# say where; everything else takes any free port, as another Ray here may have the usual one. RAY_AUTH_TOKEN_PATH is the
# token's file, made where there is none.
set -euo pipefail

port=${EXDD_DASHBOARD_PORT:-8265} ray_port=${EXDD_RAY_PORT:-6379}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_TOKEN RAY_ADDRESS # the first would win over the file, the second is another cluster's

python -c 'import aiohttp_cors, ray' 2>/dev/null || {
    echo 'local.sh: jobs need the packages of ray[default]: run it by `uv run cluster/local.sh`' >&2
    exit 1
}
client_port=$( # any that is free
    python - EXDD_DASHBOARD_PORT="$port" EXDD_RAY_PORT="$ray_port" <<'CHECK'
import socket, sys
held = [socket.create_server(("", 0))]
for setting in sys.argv[1:]:
    name, _, port = setting.partition("=")
    try:
        held.append(socket.create_server(("", int(port))))
    except (OSError, OverflowError, ValueError):
        sys.exit(f"local.sh: port {port} is taken, or none: set {name} to a free one")
print(held[0].getsockname()[1])
CHECK
)
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (
        umask 077
        mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
        python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH"
    )
fi

cat <<LINES
In another shell, once the head has started:
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH
  uv run python sweeps/synth_count.py --submit http://127.0.0.1:$port store=\$PWD/store output=\$PWD/runs/synth_count
LINES

# Workers listen on any free ports: Ray's own range for them may hold one of ours.
exec ray start --head --block --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port="$port" \
    --dashboard-agent-listen-port=0 --port="$ray_port" --ray-client-server-port="$client_port" --min-worker-port=0 \
    --max-worker-port=0 --temp-dir="${EXDD_RAY_TEMP:-/tmp/exdd-ray}" "$@"
