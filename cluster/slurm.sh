#!/usr/bin/env bash
# A Ray cluster inside of a Slurm job: the head on the first node, a worker on each other one, then the command.
#   EXDD_SHARED=/mnt/exdd sbatch cluster/slurm.sh python sweeps/synth_count.py store=/mnt/exdd/store output=...
# sbatch is called in the repository, with the environment's Python first in PATH, and both are the same on all nodes.
#SBATCH --job-name=exdd
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

: "${EXDD_SHARED:?a folder that every node reaches by the same path}"
: "${1:?the command to run, such as: python sweeps/synth_count.py}"
if [ ! -f cluster/hold.py ]; then # where this script lies, Slurm does not tell: it runs a copy
    echo "slurm.sh: $PWD is not the repository's folder; call sbatch there" >&2
    exit 1
fi
nodes=$SLURM_JOB_NUM_NODES
cpus=$SLURM_CPUS_PER_TASK
gpus=${SLURM_GPUS_PER_NODE:-0}
gpus=${gpus##*:} # of `a100:4`, the number

token=$EXDD_SHARED/.ray-token-$SLURM_JOB_ID
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_TOKEN # it would win over the file

pids=() # what this script started; it ends nothing else
finish() {
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        kill "${pids[at]}" 2>/dev/null || true
    done
    wait || true
    rm -f "$token"
}
trap finish EXIT
trap 'exit 143' TERM INT

ip=$(hostname -I | awk '{ print $1 }') # this script runs on the first node
port=$((20000 + SLURM_JOB_ID % 10000)) # several jobs may share a node
export RAY_ADDRESS=$ip:$port
start=(ray start --block --num-cpus="$cpus" --num-gpus="$gpus")
temp=${RAY_TMPDIR:-/tmp}/ray-$SLURM_JOB_ID

"${start[@]}" --head --node-ip-address="$ip" --port="$port" --ray-client-server-port=$((port + 10000)) \
    --temp-dir="$temp" --include-dashboard=false &
pids+=($!)
if ((nodes > 1)); then
    srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --cpus-per-task="$cpus" --exclude="$SLURMD_NODENAME" \
        "${start[@]}" --address="$RAY_ADDRESS" --temp-dir="$temp" &
    pids+=($!)
fi
for ((second = 0; second < 120; second++)); do
    ray health-check --address "$RAY_ADDRESS" 2>/dev/null && break
    kill -0 "${pids[0]}" || exit 1 # it has said why
    sleep 1
done

python cluster/hold.py --seconds 300 CPU=$((nodes * cpus)) GPU=$((nodes * gpus)) -- "$@" &
pids+=($!)
wait $!
