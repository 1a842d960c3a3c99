#!/usr/bin/env bash
# A real Slurm of one node on this machine, to try batch jobs without a cluster. Root, on Debian.
#
#   scripts/slurm/here.sh start     installs Slurm where it is not there, starts it, says how to use it
#   scripts/slurm/here.sh stop      ends what it started, and nothing else
#
# Its settings lie in a folder of their own, so that those of a real cluster in /etc/slurm are never
# touched; commands find them by SLURM_CONF. The partition is called main. The node claims 64 CPUs and
# 8 GPUs, so that scripts for larger machines run here as they are. Tests marked `slurm` run while it
# is up: pytest -m slurm.
set -euo pipefail

state=${CURVTOOL_SLURM:-/var/spool/curvtool-slurm}
export SLURM_CONF=$state/slurm.conf

fail() {
  echo "here.sh: $*" >&2
  exit 1
}

settings() {
  local host=$1
  cat <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
# Ports of their own, beside those of a node of a real cluster.
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
SlurmUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
# CPUs alone: jobs side by side need not say how much memory they take.
SelectTypeParameters=CR_CPU
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ReturnToService=2
# From SIGTERM to SIGKILL.
KillWait=10
JobRequeue=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=64 Gres=gpu:8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

install() {
  command -v apt-get >/dev/null || fail "Slurm is not installed, and this is no Debian: install sbatch, slurmctld, slurmd and munged."
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

start() {
  [[ $(id -u) == 0 ]] || fail "slurmd starts jobs as any user, so that it needs root."
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null || install
  if alive slurmctld; then
    fail "it is up already; end it with '$0 stop'."
  fi
  mkdir -p "$state/controller" "$state/node"
  settings "$(hostname -s)" >"$SLURM_CONF"
  # Files in the place of devices: nothing here keeps anybody from a real one.
  touch "$state"/gpu{0..7}
  echo "Name=gpu File=$state/gpu[0-7]" >"$state/gres.conf"
  if ! pgrep -x munged >/dev/null; then
    mkdir -p /run/munge
    chown munge: /run/munge
    su -s /bin/sh munge -c "$(command -v munged)"
    cp /run/munge/munged.pid "$state/munged.pid"
  fi
  slurmctld
  slurmd
  for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
      sinfo
      echo "here.sh: up. In your shell: export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.5
  done
  fail "no node became idle within 30 s; see $state/slurmctld.log and $state/slurmd.log."
}

alive() { # alive NAME: whether the process that was started is there still
  [[ -f $state/$1.pid ]] && [[ $(cat "/proc/$(cat "$state/$1.pid")/comm" 2>/dev/null) == "$1" ]]
}

stop() {
  # Jobs first: they would outlive the node's daemon.
  alive slurmctld && timeout 10 scancel --partition=main || true
  for name in slurmd slurmctld munged; do
    if alive "$name"; then
      pid=$(cat "$state/$name.pid")
      kill "$pid"
      for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
      done
    fi
    rm -f "$state/$name.pid"
  done
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  *) fail "expected 'start' or 'stop'." ;;
esac
