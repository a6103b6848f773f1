#!/bin/bash
# Starts a Slurm cluster of one node with its state in FOLDER: bash slurm_node.sh FOLDER
# Eight GPUs and eight TPUs are declared, none is there: what is tested is who takes what.
set -euo pipefail
folder=$1
host=$(hostname -s)
mkdir -p "$folder"/{state,spool,munge,dev}
chmod 700 "$folder/munge"
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 600 "$folder/munge/key"
munged --force --key-file "$folder/munge/key" --socket "$folder/munge/socket" \
  --pid-file "$folder/munged.pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
for number in 0 1 2 3 4 5 6 7; do
  mknod "$folder/dev/gpu$number" c 1 3
done
cat >"$folder/gres.conf" <<END
Name=gpu Type=h100 File=$folder/dev/gpu[0-7]
Name=tpu Type=v6e Count=8 Flags=CountOnly
END
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=16827
SlurmdPort=16828
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MailProg=/bin/true
GresTypes=gpu,tpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) Gres=gpu:h100:8,tpu:v6e:8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$folder/slurm.conf
slurmctld -c
slurmd -c
for _ in $(seq 60); do
  [[ $(sinfo --noheader --format=%t) == idle ]] && exit 0
  sleep 1
done
sinfo >&2
exit 1
