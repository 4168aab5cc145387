#!/bin/bash
# Ray inside an allocation of Slurm, one raylet per node, and Dagster beside Ray's head.
#   sbatch --nodes=2 --gpus-per-node=8 --time=2-00:00:00 deploy/ray/on_slurm.sh
#SBATCH --job-name=aanet-ray
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -euo pipefail
# Jobs are words of a shell, and begin with `dagster`.
export PATH=$PWD/.venv/bin:$PATH
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
others=$((SLURM_JOB_NUM_NODES - 1))

# The dashboard takes jobs, and asks nobody who he is: it stays on the head's own address.
srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" \
  --nodelist="$head" \
  ray start --head --node-ip-address="$head" --port=6379 --block &
sleep 20
if ((others > 0)); then
  srun --overlap --nodes="$others" --ntasks="$others" --cpus-per-task="$SLURM_CPUS_ON_NODE" \
    --exclude="$head" \
    ray start --address="$head:6379" --block &
fi

export AANET_RAY_ADDRESS=http://127.0.0.1:8265
exec aanet ui
