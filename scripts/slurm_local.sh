#!/usr/bin/env bash
# A two-node SLURM on this machine, to try LAUNCH=slurm where there is no cluster. As root, with Debian's packages:
#   apt-get install slurmctld slurmd slurm-client munge
#   scripts/slurm_local.sh up FOLDER             start it; keys, logs and state stay in FOLDER
#   eval "$(scripts/slurm_local.sh env FOLDER)"  let this shell's sbatch, squeue, ... talk to it
#   scripts/slurm_local.sh down FOLDER           stop what `up` started
# The nodes n1 and n2 have one task slot each. Requeued jobs start again within seconds, not minutes (cred_expire).
set -euo pipefail
export PATH=$PATH:/usr/sbin
[ $# -eq 2 ] || { sed -n '2,7p' "$0"; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
socket=$folder/munge/socket

environment() {  # node names resolve nowhere, so that processes of one job meet at the loopback address
  echo "export SLURM_CONF='$folder/slurm.conf' MASTER_ADDR=127.0.0.1"
}

configure() {
  local ports
  ports=($(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in held))'))
  cat >"$folder/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
KillWait=5
CompleteWait=0
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=1
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE
CONF
}

up() {
  mkdir -p "$folder/state" "$folder/munge"
  chmod 755 "$folder/munge"
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
  # --force: a folder that only its owner may enter will do
  munged --force --socket="$socket" --key-file="$folder/munge/key" --seed-file="$folder/munge/seed" \
    --log-file="$folder/munge/log" --pid-file="$folder/munged.pid" --num-threads=2 2>"$folder/munge/start"
  configure
  eval "$(environment)"
  slurmctld
  slurmd -N n1
  slurmd -N n2
  for _ in $(seq 100); do
    [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c idle)" = 2 ] && exit 0
    sleep 0.1
  done
  echo "the nodes did not come up; their logs are in $folder" >&2
  exit 1
}

down() {
  eval "$(environment)"
  if scancel --user="$(id -un)" 2>/dev/null; then  # else its jobs would outlive it
    for _ in $(seq 100); do
      [ -z "$(squeue -h 2>/dev/null)" ] && break
      sleep 0.1
    done
  fi
  for name in slurmd-n1 slurmd-n2 slurmctld munged; do
    [ -f "$folder/$name.pid" ] || continue
    pid=$(cat "$folder/$name.pid")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
}

case $1 in up) up ;; env) environment ;; down) down ;; *) sed -n '2,7p' "$0"; exit 2 ;; esac
