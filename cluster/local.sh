#!/usr/bin/env bash
# A Ray head with a token on this machine, for `ray job submit`. It stays in the foreground: Ctrl-C, or SIGTERM to this
# process, ends it and all that it started.
#   uv run cluster/local.sh [options of `ray start`, such as --num-cpus=4]
# EXDD_DASHBOARD_PORT (8265), EXDD_RAY_PORT (6379) and EXDD_RAY_TEMP (/tmp/exdd-ray; a short path: sockets lie in it)
# say where; its agent takes any free port, as another Ray here may have the usual one. RAY_AUTH_TOKEN_PATH is the token's
# file, made where there is none.
set -euo pipefail

port=${EXDD_DASHBOARD_PORT:-8265}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_TOKEN RAY_ADDRESS # the first would win over the file, the second is another cluster's

python -c 'import aiohttp_cors, ray' 2>/dev/null || {
    echo 'local.sh: jobs need the packages of ray[default]: run it by `uv run cluster/local.sh`' >&2
    exit 1
}
for setting in EXDD_DASHBOARD_PORT="$port" EXDD_RAY_PORT="${EXDD_RAY_PORT:-6379}"; do
    python -c 'import socket, sys; socket.create_server(("", int(sys.argv[1]))).close()' "${setting#*=}" 2>/dev/null || {
        echo "local.sh: port ${setting#*=} is taken, or none: set ${setting%=*} to a free one" >&2
        exit 1
    }
done
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
  uv run ray job submit --address http://127.0.0.1:$port --working-dir . -- \
      python sweeps/synth_count.py store=\$PWD/store output=\$PWD/runs/synth_count
LINES

exec ray start --head --block --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port="$port" \
    --dashboard-agent-listen-port=0 --port="${EXDD_RAY_PORT:-6379}" --temp-dir="${EXDD_RAY_TEMP:-/tmp/exdd-ray}" "$@"
