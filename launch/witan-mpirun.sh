#!/usr/bin/env bash
# mpirun with the settings that Witan wants on one machine or a few; the arguments are mpirun's.
# usage: launch/witan-mpirun.sh -n RANKS witan train CONFIG [ARG...]
#
# Threads: the program gives each rank (cores of its CPU mask) / (ranks on the machine), or OMP_NUM_THREADS if that is set.
# To stop gracefully: kill -USR1 on mpirun (exit code 0), or Ctrl-C (the step and the checkpoint are finished too, but
# mpirun itself then returns 1).
# Each setting stands in the environment, so that the same option on the command line still wins.
set -euo pipefail

if [ $# -eq 0 ]; then
  sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0"
  exit 2
fi

# Containers and fresh machines have no other user than root.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# More ranks than cores: allowed (an 8-rank run can be debugged on a laptop), idle ranks then yield.
export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
# Open MPI binds each of one or two ranks to a single core, which would leave one core for all threads of a rank.
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
# Ranks get this many seconds instead of one between SIGTERM and SIGKILL, to finish the step and write a checkpoint. Raise it
# for large models: --mca odls_base_sigkill_timeout 60. (mpirun 4.1 also waits about twice as long before it reports a run
# that failed.)
export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-5}

# `witan` is the installed program, else that of this source tree.
if ! command -v witan >/dev/null; then
  root=$(cd "$(dirname "$0")/.." && pwd)
  export PATH=$root/build/release/bin:$PATH
fi
exec mpirun "$@"
