#!/bin/bash
# Starts the processes of one of several machines; slurm.sbatch and skypilot.yaml call it on each.
#   deploy/node.sh MACHINES RANK FIRST_MACHINE PORT GPUS_EACH STRATEGY OUT RECIPE.yaml [key=value ...]
# OUT lies on a disk that all machines share. An interrupted run in it goes on.
set -euo pipefail
machines=$1 rank=$2 first=$3 port=$4 gpus=$5 strategy=$6 out=$7 recipe=$8
shift 8
processes=$((machines * gpus))
train=(train "$recipe" "$@" "out=$out")
resume=()
if [ -f "$out/run.json" ]; then resume=(--resume); fi
if [ "$processes" = 1 ]; then exec python -m boxrl "${train[@]}" "${resume[@]}"; fi
config=$(mktemp)
python -m boxrl "${train[@]}" --launch accelerate --num-processes "$processes" \
  --strategy "$strategy" --write-config "$config"
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=86400 # else torch kills 30 s after TERM, amid a long step
exec accelerate launch --config_file "$config" --num_machines "$machines" --machine_rank "$rank" \
  --num_processes "$processes" --main_process_ip "$first" --main_process_port "$port" \
  -m boxrl "${train[@]}" "${resume[@]}"
